//! `oneke-agent kubeconfig`: the administrator's credentials, for use elsewhere. Root's alone, on a master.

use std::io::Write;
use std::path::Path;

use anyhow::bail;

use super::{Exit, Kubeconfig, input, print};
use crate::context::{Config, Vars, show};
use crate::facts::{Facts, Observed};
use crate::identity::{self, Identity};
use crate::node::kubeconfig;
use crate::plan::Secret;
use crate::service::Role;
use crate::world::files;

/// Prints RKE2's kubeconfig with the control plane's endpoint as its server.
pub fn kubeconfig(arguments: &Kubeconfig) -> anyhow::Result<Exit> {
    if !nix::unistd::Uid::effective().is_root() {
        bail!(
            "it prints the credentials of the cluster's administrator: only root may read them, so use sudo"
        );
    }
    let identity = master(&files::read(Path::new(identity::PATH)))?;
    let rke2 = match files::read(Path::new(kubeconfig::PATH)) {
        Observed::Known(file) => file.content,
        Observed::Absent => bail!(
            "there is no {} yet: RKE2 writes it once its API is up; see oneke-agent status",
            kubeconfig::PATH
        ),
        Observed::Unknown(why) => bail!("{why}"),
    };
    let text = input::text(arguments.context.as_deref())?;
    let config =
        Vars::parse(text.expose()).ok().and_then(|vars| Config::read(&vars, Some(Role::Master)).ok());
    let Some(config) = config else { return refuse(&text) };
    let Some(own) = identity.node_ip else { bail!("{} lacks this node's address", identity::PATH) };
    let theirs =
        kubeconfig::leading_to(&kubeconfig::endpoint(&config, own), &rke2).map_err(anyhow::Error::msg)?;
    print(theirs.expose())?;
    Ok(Exit::Done)
}

/// Tells what is wrong with the context on standard error: the output is a kubeconfig, or nothing.
fn refuse(text: &Secret) -> anyhow::Result<Exit> {
    let found = show::Check::of(text.expose(), Some(Role::Master));
    write!(std::io::stderr(), "{found}")?;
    Ok(Exit::Context)
}

/// Who this master is.
///
/// # Errors
/// If this VM is none, or did not join yet, or its disk does not tell.
fn master(file: &Observed<crate::facts::File>) -> anyhow::Result<Identity> {
    let mut facts = Facts::default();
    facts.files.insert(identity::PATH.into(), file.clone());
    match Identity::observed(&facts) {
        Observed::Known(Ok(identity)) if identity.role == Role::Master => Ok(identity),
        Observed::Known(Ok(identity)) => {
            bail!(
                "the role of this VM is {}: only a master has the administrator's kubeconfig",
                identity.role
            )
        }
        Observed::Absent => {
            bail!(
                "this VM is in no cluster yet: only a master that joined has a kubeconfig; see oneke-agent status"
            )
        }
        Observed::Known(Err(why)) | Observed::Unknown(why) => bail!("{why}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::File;

    fn refusal(text: &str) -> String {
        let content = Secret::new(text);
        master(&Observed::Known(File { mode: 0o644, content })).unwrap_err().to_string()
    }

    #[test]
    fn only_masters_have_one() {
        let identity =
            |role: &str| format!("vm = 7\nservice = 3\nrole = \"{role}\"\nnode_ip = \"10.0.0.7\"\n");
        let content = Secret::new(identity("master"));
        assert!(master(&Observed::Known(File { mode: 0o644, content })).is_ok());
        assert_eq!(
            refusal(&identity("storage")),
            "the role of this VM is storage: only a master has the administrator's kubeconfig"
        );
        assert!(refusal("vm = ").contains("damaged"));
        assert!(master(&Observed::Absent).unwrap_err().to_string().contains("in no cluster yet"));
    }
}
