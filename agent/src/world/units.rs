//! systemd's units over D-Bus: their state, their jobs, and being woken when they move.
//!
//! systemd is asked at each pass; nothing of it is remembered but the connection, which is made again when it broke,
//! and the digest of the configuration that a unit loaded, which lives in `/run` because it ends with the boot.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::time::timeout;
use zbus_systemd::systemd1::{ManagerProxy, ServiceProxy, UnitProxy};
use zbus_systemd::zbus;

use super::files;
use super::unit_events::{JobsEnded, Watches};
use crate::facts::{Active, Observed, Unit};
use crate::plan::Load;

/// Where the digests of loaded configurations are, one file per unit.
const LOADED: &str = "/run/oneke-agent/loaded";
/// systemd answers in milliseconds; while it reloads itself on a busy machine, in a second or two.
const LIMIT: Duration = Duration::from_secs(5);
/// Whoever waits for the agent's end waits for this, too.
const ASKED_LAST: Duration = Duration::from_secs(1);
/// HAProxy and Keepalived take their configuration within a tenth of a second.
const LOADING: Duration = Duration::from_secs(3);
/// For what may have systemd read all its units anew (daemon-reload), on a starved machine beyond this: then the pass
/// ends, systemd goes on, and the next pass that it answers sees what it did and does the rest. The loop shall not stand
/// longer, for nothing else is looked at meanwhile.
const CHANGING: Duration = LIMIT.saturating_add(LOADING);

/// How systemd answered, or that it did not.
pub type Units = BTreeMap<String, Observed<Unit>>;

/// systemd, as the agent meets it.
pub struct Systemd {
    connection: Option<zbus::Connection>,
    watches: Watches,
}

impl Systemd {
    /// Not connected yet; `watches` wake the loop.
    pub fn new(watches: Watches) -> Self {
        Self { connection: None, watches }
    }

    /// The state of the units, and a watch on each of them.
    pub async fn observe(&mut self, names: &[String]) -> Units {
        if names.is_empty() {
            return Units::new();
        }
        let answer = timeout(LIMIT, self.try_observe(names)).await.unwrap_or_else(|_| Err(silent(LIMIT)));
        answer.unwrap_or_else(|error| {
            self.connection = None;
            let why = format!("could not ask systemd: {error:#}");
            names.iter().map(|name| (name.clone(), Observed::Unknown(why.clone()))).collect()
        })
    }

    async fn try_observe(&mut self, names: &[String]) -> anyhow::Result<Units> {
        let connection = self.connection().await?;
        let manager = ManagerProxy::new(&connection).await?;
        let listed = manager.list_units_by_names(names.to_vec()).await?;
        let mut units = Units::new();
        for (name, _, load, active, _, _, path, _, job, _) in listed {
            self.watches.watch(&connection, &name, path.as_str()).await?;
            let unit = if load == "not-found" {
                Observed::Absent
            } else {
                let active = with_job(active_of(&active)?, &job);
                Observed::Known(details(&connection, &manager, &name, path.as_str(), active).await?)
            };
            units.insert(name, unit);
        }
        for name in names {
            let missing = || Observed::Unknown(format!("systemd said nothing of {name}"));
            units.entry(name.clone()).or_insert_with(missing);
        }
        self.watches.keep_only(names);
        Ok(units)
    }

    /// True if the whole machine is on its way to power off or to reboot. If systemd does not say so it is not taken for
    /// true: an agent that is only restarted tells nobody farewell.
    pub async fn goes_down(&mut self) -> bool {
        let state =
            self.bounded(async |connection| Ok(ManagerProxy::new(&connection).await?.system_state().await?));
        match timeout(ASKED_LAST, state).await {
            // The word of systemctl(1), is-system-running: shutdown.target is active or queued.
            Ok(Ok(state)) => state == "stopping",
            Ok(Err(error)) => {
                tracing::warn!("could not ask systemd whether the machine goes down: {error:#}");
                false
            }
            Err(_) => false,
        }
    }

    async fn connection(&mut self) -> anyhow::Result<zbus::Connection> {
        if let Some(connection) = self.connection.as_ref().filter(|connection| !connection.is_closed()) {
            return Ok(connection.clone());
        }
        let connection = zbus::Connection::system().await.context("could not reach D-Bus")?;
        // Without a subscriber systemd sends no signals at all.
        ManagerProxy::new(&connection).await?.subscribe().await?;
        self.watches.forget();
        self.connection = Some(connection.clone());
        Ok(connection)
    }

    /// Queues a job and returns: what becomes of it is observed.
    ///
    /// # Errors
    /// If systemd refuses the job, or cannot be asked.
    pub async fn queue(&mut self, job: Job, unit: &str) -> anyhow::Result<()> {
        self.bounded(async |connection| {
            let manager = ManagerProxy::new(&connection).await?;
            refresh(&connection, &manager, unit, job).await?;
            enqueue(&manager, job, unit).await.map(|_| ())
        })
        .await
    }

    /// Makes the unit start at boot, or not.
    ///
    /// # Errors
    /// If systemd refuses, or cannot be asked.
    pub async fn enable(&mut self, unit: &str, enabled: bool) -> anyhow::Result<()> {
        let files = vec![unit.to_owned()];
        self.bounded(async |connection| {
            let manager = ManagerProxy::new(&connection).await?;
            if enabled {
                manager.enable_unit_files(files, false, true).await?;
            } else {
                manager.disable_unit_files(files, false).await?;
            }
            Ok(manager.reload().await?)
        })
        .await
    }

    /// Makes the unit take its configuration, and remembers `digest` as the loaded one once it did.
    ///
    /// # Errors
    /// If the job failed, or systemd cannot be asked; then nothing is remembered.
    pub async fn load(&mut self, unit: &str, how: Load, digest: &str) -> anyhow::Result<()> {
        self.bounded(async |connection| load(&connection, unit, how).await).await?;
        remember(unit, digest).await
    }

    async fn bounded<T>(
        &mut self,
        ask: impl AsyncFnOnce(zbus::Connection) -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        let connection = timeout(LIMIT, self.connection()).await.unwrap_or_else(|_| Err(silent(LIMIT)))?;
        timeout(CHANGING, ask(connection)).await.unwrap_or_else(|_| {
            self.connection = None;
            Err(silent(CHANGING))
        })
    }
}

/// What can be queued for a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Job {
    /// `systemctl start`.
    Start,
    /// `systemctl stop`.
    Stop,
    /// `systemctl restart`.
    Restart,
    /// `systemctl reload`.
    Reload,
}

fn silent(limit: Duration) -> anyhow::Error {
    anyhow::anyhow!("systemd did not answer within {} s", limit.as_secs())
}

async fn details(
    connection: &zbus::Connection,
    manager: &ManagerProxy<'_>,
    name: &str,
    path: &str,
    active: Active,
) -> anyhow::Result<Unit> {
    let (mut restarts, mut status) = (0, String::new());
    if name.ends_with(".service") {
        let service = ServiceProxy::builder(connection)
            .path(path)
            .cache_properties(zbus::proxy::CacheProperties::No)
            .build()
            .await?;
        restarts = service.n_restarts().await?;
        status = service.status_text().await?;
    }
    // A unit that was made by a generator or at run time has no file, which is an error here: then it is not enabled.
    let enabled = manager.get_unit_file_state(name.to_owned()).await.is_ok_and(|state| state == "enabled");
    Ok(Unit { active, enabled, restarts, status, loaded: loaded(name) })
}

/// `ActiveState` by systemd's words.
fn active_of(word: &str) -> anyhow::Result<Active> {
    Ok(match word {
        "active" => Active::Active,
        "reloading" | "refreshing" => Active::Reloading,
        "inactive" => Active::Inactive,
        "failed" => Active::Failed,
        // In maintenance its directories are being cleaned: it does not run yet.
        "activating" | "maintenance" => Active::Activating,
        "deactivating" => Active::Deactivating,
        other => bail!("systemd calls a state {other:?}, which is not known"),
    })
}

/// A unit whose start is queued (it waits for the network, say) is on its way up, though systemd calls it inactive: to
/// start it again would change nothing.
fn with_job(active: Active, job: &str) -> Active {
    match (active, job) {
        (Active::Inactive | Active::Failed, "start" | "restart") => Active::Activating,
        (Active::Active, "stop") => Active::Deactivating,
        (active, _) => active,
    }
}

/// A unit file or drop-in that was written since systemd read it is read before the unit starts by it.
async fn refresh(
    connection: &zbus::Connection,
    manager: &ManagerProxy<'_>,
    unit: &str,
    job: Job,
) -> anyhow::Result<()> {
    if matches!(job, Job::Start | Job::Restart)
        && unit_proxy(connection, manager, unit).await?.need_daemon_reload().await?
    {
        manager.reload().await?;
    }
    Ok(())
}

async fn unit_proxy<'c>(
    connection: &'c zbus::Connection,
    manager: &ManagerProxy<'_>,
    unit: &str,
) -> anyhow::Result<UnitProxy<'c>> {
    let path = manager.load_unit(unit.to_owned()).await?;
    let builder = UnitProxy::builder(connection).path(path);
    Ok(builder.cache_properties(zbus::proxy::CacheProperties::No).build().await?)
}

/// Queues the job in mode "replace", as systemctl does; returns its path.
async fn enqueue(manager: &ManagerProxy<'_>, job: Job, unit: &str) -> anyhow::Result<String> {
    let (name, mode) = (unit.to_owned(), "replace".to_owned());
    let path = match job {
        Job::Start => manager.start_unit(name, mode).await?,
        Job::Stop => manager.stop_unit(name, mode).await?,
        Job::Restart => manager.restart_unit(name, mode).await?,
        Job::Reload => manager.reload_unit(name, mode).await?,
    };
    Ok(path.to_string())
}

async fn load(connection: &zbus::Connection, name: &str, how: Load) -> anyhow::Result<()> {
    let manager = ManagerProxy::new(connection).await?;
    let unit = unit_proxy(connection, &manager, name).await?;
    let runs = matches!(active_of(&unit.active_state().await?)?, Active::Active | Active::Reloading);
    let job =
        if how == Load::Reload && runs && unit.can_reload().await? { Job::Reload } else { Job::Restart };
    refresh(connection, &manager, name, job).await?;
    let mut ended = JobsEnded::listen(connection).await?;
    let path = enqueue(&manager, job, name).await?;
    match timeout(LOADING, ended.result_of(&path)).await {
        Ok(result) => match result?.as_str() {
            "done" => Ok(()),
            result => bail!("systemd's job ended with {result:?}: see journalctl -u {name}"),
        },
        // A slow start reads its configuration at its beginning: it has it, and whether it gets up is observed.
        Err(_) if job == Job::Restart => Ok(()),
        Err(_) => bail!("it is still reloading after {} s", LOADING.as_secs()),
    }
}

/// The digest that was remembered for a unit in this boot.
fn loaded(unit: &str) -> Option<String> {
    files::read(&loaded_path(unit)).known().map(|file| file.content.expose().to_owned())
}

async fn remember(unit: &str, digest: &str) -> anyhow::Result<()> {
    files::replace(&loaded_path(unit), 0o644, digest, async |_| Ok(())).await
}

fn loaded_path(unit: &str) -> PathBuf {
    PathBuf::from(LOADED).join(unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_of_the_future_is_not_guessed() {
        assert_eq!(active_of("failed").unwrap(), Active::Failed);
        assert_eq!(active_of("refreshing").unwrap(), Active::Reloading);
        assert!(active_of("hibernating").is_err());
    }

    #[test]
    fn a_queued_start_counts() {
        assert_eq!(with_job(Active::Inactive, "start"), Active::Activating);
        assert_eq!(with_job(Active::Inactive, ""), Active::Inactive);
        assert_eq!(with_job(Active::Active, "reload"), Active::Active);
    }
}
