#!/bin/sh
# Turns a Debian or Ubuntu root file system into OneKE's. Run in it as root, by Packer and by the lab alike:
#   provision.sh STAGE
# STAGE holds oneke-agent.deb and rke2.tar.gz (RKE2's release tarball, as it is).
set -eu
stage=$1
export DEBIAN_FRONTEND=noninteractive

# RKE2 where its own installer puts it. Its units stay disabled: the agent enables one once the node has joined.
tar -xzf "$stage/rke2.tar.gz" -C /usr/local

# apt, not dpkg: it fetches what the package depends on, and needs no network when all of that is there.
apt-get install --quiet --yes --no-install-recommends "$stage/oneke-agent.deb"

# Their packages enable them; here the agent starts what the VM's role needs, with the role's configuration.
for unit in conntrackd haproxy keepalived nftables unbound; do
    systemctl --quiet disable "$unit.service"
done
