VMID=7
GROW_FS=/ /var/lib/longhorn
