//! Virtual routers: the other kind of group that OneGate knows, next to services.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Duration;

use crate::cloud::{Cloud, Refused};
use crate::create::{Draft, NicRequest};
use crate::id::VmId;
use crate::network::Holder;
use crate::templates::VmTemplate;

/// A virtual router as oned keeps it.
#[derive(Clone, Debug)]
pub(crate) struct VirtualRouter {
    pub name: String,
    pub template_id: u32,
    pub vms: Vec<VmId>,
    pub nics: Vec<RouterNic>,
}

/// A NIC that all VMs of a virtual router have.
#[derive(Clone, Debug)]
pub(crate) struct RouterNic {
    pub network: String,
    pub network_id: u32,
    pub floating: Option<Ipv4Addr>,
}

impl Cloud {
    /// `onevrouter instantiate`: so many VMs with a NIC in each network; `true` asks for a floating
    /// address there.
    ///
    /// # Errors
    /// If a network is unknown or has no address left.
    pub fn create_virtual_router(
        &mut self,
        now: Duration,
        name: &str,
        template: &VmTemplate,
        networks: &[(&str, bool)],
        vms: usize,
    ) -> Result<u32, Refused> {
        self.tick(now);
        let id = self.virtual_routers.len() as u32;
        let mut nics = Vec::new();
        for (network, floats) in networks {
            let network = (self.networks.iter_mut().find(|known| known.spec.name == *network))
                .ok_or_else(|| Refused(format!("there is no network {network:?}")))?;
            let reuse = self.options.reuse_addresses;
            let floating = floats.then(|| network.lease(Holder::VirtualRouter(id), reuse)).flatten();
            nics.push(RouterNic { network: network.spec.name.clone(), network_id: network.id, floating });
        }
        let request = |nic: &RouterNic| NicRequest {
            network: nic.network.clone(),
            vrouter_ip: nic.floating,
            ..NicRequest::default()
        };
        let requests: Vec<_> = nics.iter().map(request).collect();
        let router = VirtualRouter { name: name.to_owned(), template_id: template.id, vms: Vec::new(), nics };
        self.virtual_routers.insert(id, router);
        for index in 0..vms {
            let mut attributes = template.attributes.clone();
            attributes.set("VROUTER", "YES");
            let vm = self.create(
                now,
                Draft {
                    name: format!("vr-{name}-{index}"),
                    template: template.clone(),
                    nics: requests.clone(),
                    attributes,
                    membership: None,
                    virtual_router: Some(id),
                    context: BTreeMap::new(),
                },
            )?;
            self.virtual_routers.entry(id).and_modify(|router| router.vms.push(vm));
        }
        Ok(id)
    }
}
