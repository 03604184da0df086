//! OneGate, as the machine's observation meets it.

use crate::facts::{Moment, Observed, Reading};
use crate::plan::{Attributes, Reads, Secret};
use crate::service::{Service, Vm, VmId};

/// OneGate, once the context told where it is.
#[derive(Debug, Default)]
pub struct Cloud {}

impl Cloud {
    /// Reads what is due.
    pub async fn observe(
        &mut self,
        _context: &Observed<Secret>,
        _reads: &Reads,
        _now: Moment,
    ) -> (Reading<Vm>, Reading<Service>) {
        (Reading::default(), Reading::default())
    }

    /// Publishes.
    pub async fn publish(&mut self, _vm: Option<VmId>, _attributes: &Attributes) -> anyhow::Result<()> {
        anyhow::bail!("OneGate is not known")
    }
}
