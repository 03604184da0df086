VMID='7'
if true; then
  X='1'
fi
