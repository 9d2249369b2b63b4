#!/bin/sh
# systemd as process 1 of namespaces of its own, on a copy of this machine's root that goes with it; the network is this machine's.
#
#   unshare --mount --propagation private sh system.sh run GROUP FOLDER UNITS PROGRAM    until it is killed
#   unshare --mount --propagation private sh system.sh end GROUP FOLDER                  afterwards: its control group
set -eu
step=$1 group=$2 folder=$3
shift 3

# Mounts the root that FOLDER gets, with its units and the program in their places.
root_of() {
    mount -t tmpfs tmpfs "$folder"
    root=$folder/root
    mkdir "$folder/upper" "$folder/work" "$root"
    mount -t overlay -o "lowerdir=/,upperdir=$folder/upper,workdir=$folder/work" overlay "$root"
    mount -t proc proc "$root/proc"
    mount --bind "$root/proc/sys" "$root/proc/sys"
    mount -o remount,bind,ro "$root/proc/sys"
    mount --rbind /dev "$root/dev"
    mount -t sysfs -o ro sysfs "$root/sys"
    mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
    mount -t tmpfs tmpfs "$root/run"
    # systemd clears this one.
    mount -t tmpfs tmpfs "$root/tmp"
    units=$root/run/systemd/system
    mkdir -p "$units" "$root/etc/nodepass"
    install -m 644 "$1"/*.service "$units"
    install -m 755 "$2" "$root/usr/local/bin/nodepass"
    # No machine is to be brought up: nothing but the units of the test.
    for target in sysinit basic network-online test; do
        printf '[Unit]\nDescription=Nothing\nDefaultDependencies=no\n' > "$units/$target.target"
    done
}

case $step in
run)
    mount -t cgroup2 cgroup2 "$folder"
    mkdir -p "$folder/$group"
    echo $$ > "$folder/$group/cgroup.procs"
    umount "$folder"
    exec unshare --pid --fork --kill-child --mount --uts --ipc --cgroup --propagation private \
        sh "$0" inside "$group" "$folder" "$@"
    ;;
inside)
    root_of "$@"
    cd "$root"
    pivot_root . mnt
    umount -l /mnt
    export container=lxc
    exec /lib/systemd/systemd --system --unit=test.target --show-status=no --log-target=null
    ;;
end)
    mount -t cgroup2 cgroup2 "$folder"
    # Its processes may take a moment to end.
    for _ in 1 2 3 4 5 6 7 8 9 10; do
        find "$folder/$group" -depth -type d -exec rmdir {} + 2>/dev/null || sleep 0.5
        [ -e "$folder/$group" ] || break
    done
    umount "$folder"
    ;;
esac
