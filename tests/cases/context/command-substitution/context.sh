VMID='7'
SET_HOSTNAME=$(hostname)
