//! What RKE2 nodes read, and what the image's build does.

use super::{Form, Origin, Roles, Served, Variable, var};

const NODES: Roles = Roles::NODES;
const MASTER: Roles = Roles::MASTER;
const DAMAGED: &str = "What is no base64, no YAML or no Kubernetes object is refused with line and column; the old \
scripts wrote it down and RKE2 failed later.";
const FROM_IMAGE: Served = Served::Build;

pub(super) const VARIABLES: &[Variable] = &[
    var("ONEAPP_VROUTER_ETH0_VIP0", Form::Ipv4Prefixed, NODES, "Public virtual address: default host of the four listeners and of both endpoints, for which nodes also take a name. What is neither is passed over, with a warning.").input(),
    var("ONEAPP_VROUTER_ETH1_VIP0", Form::Ipv4Prefixed, NODES, "Private virtual address: the nodes' default gateway and name server. On nodes what is no address is passed over, with a warning.").input(),
    var("FALLBACK_GW", Form::Ipv4, NODES, "Default gateway where there is no ETH1 virtual address. What is no address is passed over, with a warning."),
    var("FALLBACK_DNS", Form::Ipv4, NODES, "Name server where there is no ETH1 virtual address. What is no address is passed over, with a warning."),
    var("ONEAPP_VNF_DNS_ENABLED", Form::Bool, NODES, "Use the vnf's name server.").default("YES").input(),
    var("ONEAPP_RKE2_SUPERVISOR_EP", Form::Endpoint, NODES, "Where joiners reach RKE2's supervisor; by default the ETH0 virtual address and LB0's port.")
        .input()
        .differs("Without it and without a virtual address the masters' own addresses are used (the old scripts wrote https://:9345). A scheme is taken off and an absent port is 443, each with a warning."),
    var("ONEAPP_K8S_CONTROL_PLANE_EP", Form::Endpoint, NODES, "Where clients reach the Kubernetes API; by default the ETH0 virtual address and LB1's port.")
        .input()
        .differs("As ONEAPP_RKE2_SUPERVISOR_EP. With a scheme the old scripts put the name https into the certificate."),
    var("ONEAPP_K8S_EXTRA_SANS", Form::Names, MASTER, "Further names in the API's certificate.")
        .default("localhost,127.0.0.1")
        .input()
        .differs("Empty items are left out; of a URL or host:port the host is taken, and what is no name is left out, each with a warning."),
    var("ONEAPP_K8S_CLUSTER_CIDR", Form::CidrPair, NODES, "The pods' network.")
        .default("10.42.0.0/16")
        .input()
        .differs("Refused if it overlaps the services' network or that of a NIC; the default within a wider network of a NIC is a warning."),
    var("ONEAPP_K8S_SERVICE_CIDR", Form::CidrPair, NODES, "The services' network.")
        .default("10.43.0.0/16")
        .input()
        .differs("Refused if it overlaps the network of a NIC, as the pods' network, or has other address families than that."),
    var("ONEAPP_K8S_HTTP_PROXY", Form::Proxy, NODES, "Proxy of RKE2 and containerd for http.").input(),
    var("ONEAPP_K8S_HTTPS_PROXY", Form::Proxy, NODES, "Proxy of RKE2 and containerd for https.").input(),
    var("ONEAPP_K8S_NO_PROXY", Form::Names, NODES, "What is reached without the proxy; replaces the default.")
        .input()
        .differs("Blanks and line breaks part as commas do. The default also holds the NICs' networks, .svc and .cluster.local, without which kubelets go through the proxy."),
    var("ONEAPP_RKE2_CLOUD_CONTROLLER_ENABLED", Form::Bool, MASTER, "RKE2's own cloud controller; NO makes room for OpenNebula's.").default("YES").input(),
    var("ONEAPP_K8S_TOKEN_MODE", Form::Choice(&["sealed", "plain"]), NODES, "How joiners get their token: sealed to each joiner's key, or plain in ONEGATE_K8S_TOKEN for services that mix with the old appliance.")
        .default("sealed")
        .from(Origin::New),
    var("ONEAPP_K8S_NODE_NIC", Form::Nic, NODES, "The NIC whose address the node has in the cluster; by default the first with an IPv4 address that is not for management.")
        .from(Origin::New),
    var("ONEAPP_K8S_NODE_LABELS", Form::Labels, NODES, "Further labels of the node.")
        .from(Origin::New),
    var("ONEAPP_K8S_NODE_TAINTS", Form::Taints, NODES, "Further taints of the node.")
        .from(Origin::New),
    var("ONEAPP_K8S_EXTERNAL_LB", Form::Bool, NODES, "Something else than a vnf balances: nodes register nowhere, and both endpoints must be named.")
        .default("NO")
        .from(Origin::New),
    var("ONEAPP_K8S_FOLLOW_CONTEXT", Form::Bool, NODES, "A node that has joined follows its context: settings count from RKE2's next start, which is the operator's to choose; manifests at once. Who it is, the cluster's networks and its CNI never change. NO leaves the files of joined nodes alone.")
        .default("YES")
        .from(Origin::New),
    var("ONEAPP_K8S_JOIN_BATCH", Form::Number(1, 10_000), NODES, "How many workers and storage nodes join at once. The others wait for their turn; who has not joined five minutes after his ticket lends his turn to the next. Masters always join one by one; one that has not started five minutes after his ticket goes behind the others that wait. The leading master's value counts.")
        .default("50")
        .from(Origin::New),
    var("ONEAPP_K8S_PUBLISH_KUBECONFIG", Form::Choice(&["sealed", "plain", "no"]), MASTER, "How masters publish the administrator's kubeconfig as ONEKE_KUBECONFIG: sealed to the keys of SSH_PUBLIC_KEY (ssh-ed25519 and ssh-rsa; base64 -d, then age -d -i ~/.ssh/id_ed25519), plain as the old appliance did, or not at all.")
        .default("sealed")
        .from(Origin::New)
        .differs("The old scripts published it in clear."),
    var("ONEAPP_K8S_REGISTRIES", Form::Base64Yaml, NODES, "RKE2's registries.yaml: mirrors, authorities and credentials of registries.")
        .from(Origin::New)
        .secret(),
    var("ONEAPP_RKE2_EXTRA_CONFIG", Form::Base64Yaml, NODES, "Further settings for RKE2's config.yaml: a mapping. Lists grow; what the agent or another variable says is refused by name; a server's settings are left out on agents.")
        .from(Origin::New)
        .secret(),
    var("ONEAPP_K8S_CNI_PLUGIN", Form::Choice(&["canal", "calico", "cilium", "flannel", "none"]), MASTER, "The CNI plugin.")
        .default("cilium")
        .input()
        .differs("Other names are refused; the old scripts passed them on and RKE2 failed. multus,canal is Multus and Canal, as RKE2 reads it."),
    var("ONEAPP_K8S_CNI_CONFIG", Form::Base64Yaml, MASTER, "Replaces the CNI plugin's generated manifest.").input().differs(DAMAGED),
    var("ONEAPP_K8S_CILIUM_BGP_ENABLED", Form::Bool, MASTER, "Cilium's BGP control plane and address pool.").default("NO").input(),
    var("ONEAPP_K8S_CILIUM_RANGE*", Form::Cidr, MASTER, "Networks of Cilium's address pool, one a variable.")
        .input()
        .differs("What is no network is passed over, with a warning; the old scripts did so without, and passed /-1 and /0x10 on. IPv6 is taken."),
    var("ONEAPP_K8S_MULTUS_ENABLED", Form::Bool, MASTER, "Multus, with whereabouts.").default("NO").input(),
    var("ONEAPP_K8S_MULTUS_CONFIG", Form::Base64Yaml, MASTER, "Replaces Multus' generated manifest.").input().differs(DAMAGED),
    var("ONEAPP_K8S_METALLB_ENABLED", Form::Bool, MASTER, "MetalLB.").default("NO").input(),
    var("ONEAPP_K8S_METALLB_CLASS", Form::Class, MASTER, "MetalLB's load balancer class.")
        .default("metallb")
        .input()
        .differs("Read at run time; the old image had it fixed when it was built. What is no class is passed over, with a warning."),
    var("ONEAPP_K8S_METALLB_CONFIG", Form::Base64Yaml, MASTER, "Replaces MetalLB's generated address pool.").input().differs(DAMAGED),
    var("ONEAPP_K8S_METALLB_RANGE*", Form::Ranges, MASTER, "Addresses of MetalLB's pool.")
        .input()
        .differs("IPv6, networks and several items are taken. What is none of these is passed over, with a warning. A reversed range and one outside every NIC's network are refused; one that holds an address in use is a warning."),
    var("ONEAPP_K8S_LONGHORN_ENABLED", Form::Bool, MASTER, "Longhorn.").default("NO").input(),
    var("ONEAPP_K8S_TRAEFIK_ENABLED", Form::Bool, MASTER, "Traefik.").default("NO").input(),
    var("ONE_SERVICE_AIRGAPPED", Form::Bool, NODES, "Load the image archives that an air-gapped image carries.").default("NO"),
    var("ONEAPP_STORAGE_DEVICE", Form::Device, NODES, "The data disk, on a node of any role. A blank one is formatted; one with a file system that is xfs or ext4 is mounted as it is; any other is left alone. The node joins once it is mounted.")
        .differs("Other ways to name it than its path; disk:DISK_ID needs SERIAL=auto on the disk (OpenNebula 7.0). What is no disk at all is passed over, with a warning. A disk that is not there is waited for, not skipped. It grows with its disk."),
    var("ONEAPP_STORAGE_FILESYSTEM", Form::Choice(&["xfs", "ext4"]), NODES, "The file system of every disk that is formatted.")
        .default("xfs")
        .differs("Other kinds are refused: Longhorn takes these two."),
    var("ONEAPP_STORAGE_MOUNTPOINT", Form::Path, NODES, "Where the data disk is mounted.")
        .default("/var/lib/longhorn")
        .differs("By a systemd unit, not by /etc/fstab; what is mounted there already stays."),
    var("ONEAPP_STORAGE_WIPE", Form::Devices, NODES, "Disks that may lose what they hold: without this only a blank disk is formatted. What this VM once formatted for its data is never wiped again.")
        .from(Origin::New),
    var("ONEAPP_K8S_RANCHER_DEVICE", Form::Device, NODES, "A disk of its own for /var/lib/rancher. RKE2 never starts without it. Blank, or named in ONEAPP_STORAGE_WIPE.")
        .from(Origin::New),
    var("ONEAPP_K8S_ETCD_DEVICE", Form::Device, MASTER, "Likewise for etcd's database, /var/lib/rancher/rke2/server/db.")
        .from(Origin::New),
    var("ONEAPP_K8S_CONTAINERD_DEVICE", Form::Device, NODES, "Likewise for images and containers, /var/lib/rancher/rke2/agent/containerd.")
        .from(Origin::New),
    var("ONEAPP_K8S_STORAGE_DEVICE", Form::Device, Roles::NONE, "The user input behind ONEAPP_STORAGE_DEVICE. It reaches every role's context; the storage VM template alone turns it into that.")
        .default("/dev/vdb")
        .input()
        .served(Served::No("set ONEAPP_STORAGE_DEVICE in the VM template")),
    var("ONEAPP_K8S_STORAGE_FILESYSTEM", Form::Choice(&["xfs", "ext4"]), Roles::NONE, "The user input behind ONEAPP_STORAGE_FILESYSTEM.")
        .default("xfs")
        .input()
        .served(Served::No("set ONEAPP_STORAGE_FILESYSTEM in the VM template")),
    listener("ONEAPP_VNF_HAPROXY_LB0_IP", MASTER, "Where vnf listens for RKE2's supervisor; published verbatim. By default the ETH0 virtual address."),
    port("ONEAPP_VNF_HAPROXY_LB0_PORT", "9345", "Its port; the masters' too."),
    listener("ONEAPP_VNF_HAPROXY_LB1_IP", MASTER, "Where vnf listens for the Kubernetes API."),
    port("ONEAPP_VNF_HAPROXY_LB1_PORT", "6443", "Its port; the masters' too."),
    listener("ONEAPP_VNF_HAPROXY_LB2_IP", Roles::WORKER, "Where vnf listens for https of the ingress."),
    port("ONEAPP_VNF_HAPROXY_LB2_PORT", "443", "Its port; the workers' is 32000 more."),
    listener("ONEAPP_VNF_HAPROXY_LB3_IP", Roles::WORKER, "Where vnf listens for http of the ingress."),
    port("ONEAPP_VNF_HAPROXY_LB3_PORT", "80", "Its port; the workers' is 32000 more."),
];

const fn listener(name: &'static str, roles: Roles, doc: &'static str) -> Variable {
    var(name, Form::Ipv4OrPlaceholder, roles, doc)
        .differs("What is neither is published as it stands, where OneGate takes it, with a warning.")
}

const fn port(name: &'static str, default: &'static str, doc: &'static str) -> Variable {
    var(name, Form::Port, NODES, doc).default(default).input()
}

/// Something that the old image's build, or its scripts alone, read.
const fn build(name: &'static str, default: &'static str, doc: &'static str) -> Variable {
    var(name, Form::Text, Roles::NONE, doc).default(default).served(FROM_IMAGE)
}

pub(super) const BUILD: &[Variable] = &[
    build("ONE_SERVICE_VERSION", "", "Kubernetes' minor version."),
    build("ONE_SERVICE_RKE2_RELEASE", "", "RKE2's release."),
    build("ONE_SERVICE_RKE2_VERSION", "", "RKE2's tag."),
    build("ONE_SERVICE_HELM_VERSION", "", "Version of the helm program."),
    build("ONE_SERVICE_SETUP_DIR", "", "Base directory of the old scripts."),
    build("ONE_ADDON_DIR", "", "Where the old image kept its add-ons."),
    build("ONE_AIRGAP_DIR", "", "Where the old image kept its image archives."),
    build("K8S_MANIFEST_DIR", "", "Where RKE2 finds manifests."),
    build("K8S_IMAGE_DIR", "", "Where RKE2 finds image archives."),
    build("ONEAPP_K8S_LONGHORN_CHART_VERSION", "", "Version of Longhorn's chart."),
    build("ONEAPP_K8S_METALLB_CHART_VERSION", "", "Version of MetalLB's chart."),
    build("ONEAPP_K8S_TRAEFIK_CHART_VERSION", "", "Version of Traefik's chart."),
    build("ONEAPP_K8S_RUBY_VERSION", "", "Image of the old clean-up job, which the agent replaces.")
        .served(Served::No("the agent removes dead nodes itself")),
];
