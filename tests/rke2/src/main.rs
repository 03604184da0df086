//! The program `rke2`: hands its arguments to the library and turns the outcome into RKE2's log line and exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match oneke_rke2::run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            oneke_rke2::log_fatal(&error);
            ExitCode::FAILURE
        }
    }
}
