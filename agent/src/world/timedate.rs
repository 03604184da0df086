//! Whether the clock is kept right: systemd-timedated's word, which holds for systemd-timesyncd and chrony alike.

use std::time::Duration;

use tokio::time::timeout;
use zbus_systemd::timedate1::TimedatedProxy;
use zbus_systemd::zbus;

use crate::facts::{ClockState, Observed};

/// D-Bus starts the service when it is asked.
const LIMIT: Duration = Duration::from_secs(3);

/// Asks, if somebody wants to know.
pub async fn read(wanted: bool) -> Observed<ClockState> {
    if !wanted {
        return Observed::default();
    }
    match timeout(LIMIT, ask()).await {
        Ok(Ok(state)) => Observed::Known(state),
        Ok(Err(zbus::Error::FDO(_) | zbus::Error::MethodError(..))) => Observed::Absent,
        Ok(Err(error)) => Observed::Unknown(format!("could not ask systemd-timedated: {error}")),
        Err(_) => Observed::Unknown(format!("systemd-timedated did not answer within {} s", LIMIT.as_secs())),
    }
}

async fn ask() -> zbus::Result<ClockState> {
    let connection = zbus::Connection::system().await?;
    let clock = TimedatedProxy::builder(&connection)
        .cache_properties(zbus::proxy::CacheProperties::No)
        .build()
        .await?;
    if clock.ntp_synchronized().await? {
        return Ok(ClockState::Synchronised);
    }
    Ok(if clock.ntp().await? { ClockState::Waiting } else { ClockState::NoService })
}
