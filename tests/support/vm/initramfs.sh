#!/bin/busybox sh
# The first program in the virtual machine: loads what its disk needs and hands over to the root file system.
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t devtmpfs devtmpfs /dev
for module in /modules/*; do
    /bin/busybox insmod "$module"
done
# Disks are found while modules load.
tries=0
while [ ! -b /dev/vda ] && [ $tries -lt 300 ]; do
    /bin/busybox sleep 0.1
    tries=$((tries + 1))
done
/bin/busybox mount -t ext4 /dev/vda /root || exec /bin/busybox poweroff -f
/bin/busybox umount /proc
/bin/busybox mount -o move /dev /root/dev
exec /bin/busybox switch_root /root /sbin/guest-init
