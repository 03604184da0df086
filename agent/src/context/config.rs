//! The context parsed, defaulted and validated: it cannot be wrong any more.

use super::forms;
use super::lint;
use super::nics::{self, Nic};
use super::node::NodeConfig;
use super::problem::{Problem, Warning};
use super::reader::Reader;
use super::table::Roles;
use super::vars::Vars;
use super::vnf::VnfConfig;
use crate::node::files;
use crate::service::{Role, VmId};

/// Everything that the context says, for one role.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// `VMID`.
    pub vm: Option<VmId>,
    /// `SERVICE_ID`.
    pub service: Option<u32>,
    /// `VROUTER_ID`: this VM is an OpenNebula virtual router.
    pub vrouter: Option<u32>,
    /// How to reach OneGate.
    pub onegate: OneGateConfig,
    /// `REPORT_READY`.
    pub report_ready: bool,
    /// The NICs by index `ETHx`.
    pub nics: Vec<Nic>,
    /// What RKE2 nodes read.
    pub node: NodeConfig,
    /// What vnf nodes read.
    pub vnf: VnfConfig,
    /// What is odd.
    pub warnings: Vec<Warning>,
}

/// How to reach OneGate.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct OneGateConfig {
    /// `ONEGATE_ENDPOINT`, without a trailing slash.
    pub endpoint: Option<String>,
    /// `ONEAPP_ONEGATE_CA`: PEM, base64 in the context.
    pub ca: Option<String>,
    /// False only if `ONEAPP_ONEGATE_INSECURE` is YES.
    pub verify: bool,
}

impl Config {
    /// Reads a context for `role`; `None` holds it against every role's rules, as `check` does.
    ///
    /// # Errors
    /// Every problem of the variables that the role reads.
    pub fn read(vars: &Vars, role: Option<Role>) -> Result<Self, Vec<Problem>> {
        let (config, problems, warnings) = Self::examine(vars, role);
        if problems.is_empty() { Ok(Self { warnings, ..config }) } else { Err(problems) }
    }

    /// The same with the warnings beside the problems; with problems the configuration must not be used.
    pub(super) fn examine(vars: &Vars, role: Option<Role>) -> (Self, Vec<Problem>, Vec<Warning>) {
        let mut reader = Reader::new(vars, role);
        let config = Self::read_all(&mut reader);
        if !matches!(reader.role(), Some(Role::Vnf)) {
            config.judge(&mut reader);
        }
        lint::read(&mut reader);
        let (problems, warnings) = reader.finish();
        (config, problems, warnings)
    }

    /// Reads everything; where there is a problem, a default stands in that is never used.
    fn read_all(reader: &mut Reader<'_>) -> Self {
        let nics = nics::read(reader);
        let is_vnf = matches!(reader.role(), Some(Role::Vnf));
        let routes = is_vnf || reader.role().is_none();
        let mut id = |name| reader.value(name, Roles::ALL, |text| forms::number(text, 0, u32::MAX));
        let (vm, service, vrouter) = (id("VMID").map(VmId), id("SERVICE_ID"), id("VROUTER_ID"));
        Self {
            vm,
            service,
            vrouter,
            onegate: OneGateConfig::read(reader),
            report_ready: reader.on("REPORT_READY", Roles::ALL),
            node: reader.aside_if(is_vnf, |reader| NodeConfig::read(reader, &nics)),
            vnf: if routes { VnfConfig::read(reader, &nics) } else { VnfConfig::default() },
            nics,
            warnings: Vec::new(),
        }
    }
}

impl Config {
    /// Tells what goes wrong on nodes only when it all comes together. A variable with a problem of its own is not told
    /// twice.
    fn judge(&self, reader: &mut Reader<'_>) {
        for Warning { variable, message } in files::overlaps(self) {
            reader.warn(&variable, message);
        }
        let mut problems = files::conflicts(self);
        let roles = reader.role().cloned().map_or_else(
            || vec![Role::Master, Role::Worker("worker".into()), Role::Storage],
            |role| vec![role],
        );
        let refused = roles.iter().flat_map(|role| files::refused(self, role));
        problems.extend(refused.map(|expected| Problem {
            variable: files::EXTRA_CONFIG.into(),
            value: reader.text(files::EXTRA_CONFIG).unwrap_or_default().into(),
            expected,
        }));
        let fresh: Vec<Problem> =
            problems.into_iter().filter(|problem| !reader.has_problem(&problem.variable)).collect();
        for Problem { variable, value, expected } in fresh {
            reader.problem(&variable, &value, expected);
        }
    }
}

impl OneGateConfig {
    /// Reads these variables alone: OneGate is asked for the role before the rest can be judged by it.
    pub fn read(reader: &mut Reader<'_>) -> Self {
        let endpoint = reader.value("ONEGATE_ENDPOINT", Roles::ALL, forms::http_url);
        if reader.text("ONEGATE_ENDPOINT").is_none() {
            reader.warn(
                "ONEGATE_ENDPOINT",
                "is not in the context: set TOKEN=YES in the VM template's CONTEXT",
            );
        }
        let ca = reader.value("ONEAPP_ONEGATE_CA", Roles::ALL, |text| {
            forms::base64_text(text).filter(|pem| pem.contains("-----BEGIN CERTIFICATE-----"))
        });
        let verify = !reader.on("ONEAPP_ONEGATE_INSECURE", Roles::ALL);
        if !verify {
            let message = "OneGate's certificate is not checked: whoever answers in its place is believed";
            reader.warn("ONEAPP_ONEGATE_INSECURE", message);
        }
        Self { endpoint, ca, verify }
    }
}
