#!/bin/sh
# Removes RKE2, its configuration and its data.
[ "$(id -u)" -eq 0 ] || exec sudo "$0" "$@"
/usr/local/bin/rke2-killall.sh
for unit in rke2-server.service rke2-agent.service; do
    systemctl disable "$unit" 2>/dev/null
    systemctl reset-failed "$unit" 2>/dev/null
    rm -f "/usr/local/lib/systemd/system/$unit" "/usr/local/lib/systemd/system/${unit%.service}.env"
done
systemctl daemon-reload
rm -rf /etc/rancher/rke2 /etc/rancher/node /var/lib/rancher/rke2
rm -f /usr/local/bin/rke2 /usr/local/bin/rke2-killall.sh /usr/local/bin/rke2-uninstall.sh
