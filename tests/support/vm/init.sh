#!/bin/bash
# Process 1 of the virtual machine: what a service manager would have set up, then the tests, then the end.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8
mount -t proc -o nosuid,nodev,noexec proc /proc
mount -t sysfs -o nosuid,nodev,noexec sysfs /sys
mount -t securityfs -o nosuid,nodev,noexec securityfs /sys/kernel/security
mkdir -p /dev/pts /dev/shm /dev/mqueue
mount -t devpts -o gid=5,mode=620,ptmxmode=666 devpts /dev/pts
mount -t tmpfs -o mode=1777 tmpfs /dev/shm
mount -t mqueue mqueue /dev/mqueue
mount -t tmpfs -o mode=755 tmpfs /run
# Unified, and as a kernel leaves it: no controller is handed down until somebody does it.
mount -t cgroup2 -o nsdelegate,memory_recursiveprot cgroup2 /sys/fs/cgroup
ln -sfn /proc/self/fd /dev/fd
ln -sfn /proc/self/fd/0 /dev/stdin
ln -sfn /proc/self/fd/1 /dev/stdout
ln -sfn /proc/self/fd/2 /dev/stderr
echo guest > /proc/sys/kernel/hostname
ip link set lo up
modprobe -a virtio_console virtio_rng overlay br_netfilter bfq fuse loop tun
# The host takes the machine for hung when it does not hear this.
for port in /sys/class/virtio-ports/*; do
    [ "$(<"$port/name")" = slipway.alive ] || continue
    (echo -1000 > /proc/self/oom_score_adj; while echo; do sleep 1; done > "/dev/${port##*/}") &
done
mkdir -p /dev/net
[ -e /dev/net/tun ] || mknod /dev/net/tun c 10 200
mount -t ext4 /dev/vdb /slipway
mkswap -q /dev/vdc && swapon /dev/vdc
export SLIPWAY_TEST_IN_VM=1 SLIPWAY_TEST_PATIENCE=6
cd /slipway
python3 -m tests.support.vm.guest
sync
echo o > /proc/sysrq-trigger
sleep 60
