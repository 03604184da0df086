//! The clocks and the dice: the only place where the agent reads them.

use std::io::Read;
use std::time::{Duration, SystemTime};

use nix::time::{ClockId, clock_gettime};

use crate::facts::Moment;
use crate::plan::Secret;

/// Time since boot, suspend included. A VM that was suspended sees its waits as overdue, as they are.
pub fn now() -> Moment {
    let time = clock_gettime(ClockId::CLOCK_BOOTTIME).expect("Linux has had CLOCK_BOOTTIME since 2.6.39");
    let seconds = u64::try_from(time.tv_sec()).expect("the time since boot is not negative");
    let nanoseconds = u32::try_from(time.tv_nsec()).expect("nanoseconds are below a thousand million");
    Duration::new(seconds, nanoseconds)
}

/// Wall clock, seconds since 1970; 0 for a clock that stands before it.
pub fn wall() -> u64 {
    since_1970().as_secs()
}

/// The same, to the nanosecond.
pub fn since_1970() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}

/// 32 random bytes in hex from the kernel; empty if it gives none, so that nobody takes a weak one for a key.
pub fn entropy() -> Secret {
    let mut bytes = zeroize::Zeroizing::new([0_u8; 32]);
    let read = std::fs::File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut *bytes));
    match read {
        Ok(()) => Secret::new(bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>()),
        Err(_) => Secret::default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entropy_is_long_and_never_the_same() {
        let (first, second) = (entropy(), entropy());
        assert_eq!(first.expose().len(), 64);
        assert!(first != second);
    }
}
