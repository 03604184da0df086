//! Log lines as logrus prints them, on standard error: `time="..." level=info msg="..."`.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};

static SILENT: AtomicBool = AtomicBool::new(false);

/// From now on this process says nothing.
pub fn be_silent() {
    SILENT.store(true, Ordering::Relaxed);
}

/// Says what is going on.
pub fn info(message: &str) {
    line("info", message);
}

/// Says that something is odd but bearable.
pub fn warn(message: &str) {
    line("warning", message);
}

/// Says that something failed and is tried again.
pub fn error(message: &str) {
    line("error", message);
}

/// The last line of a process that gives up.
pub fn fatal(message: &str) {
    line("fatal", message);
}

fn line(level: &str, message: &str) {
    if SILENT.load(Ordering::Relaxed) {
        return;
    }
    let now = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    eprintln!("time=\"{now}\" level={level} msg=\"{}\"", quoted(message));
}

/// Go's `%q` for the characters that our messages can hold.
fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            c if c.is_control() => {
                let _ = write!(out, "\\x{:02x}", u32::from(c)); // Writing to a String cannot fail.
            }
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_message_stays_on_its_line() {
        assert_eq!(super::quoted("a \"b\"\nc"), "a \\\"b\\\"\\nc");
    }
}
