//! `oneke-agent`: the argument list to a command, and the command's outcome to an exit status.
//!
//! | status | meaning |
//! |---|---|
//! | 0 | done; for `status`: ready |
//! | 1 | it failed, and said why |
//! | 2 | the arguments are wrong |
//! | 3 | the context has problems, and they were listed |
//! | 4 | `status`: the agent runs, and not all conditions hold yet |
//! | 5 | `status`: the agent does not run, or its state is stale |

use std::process::ExitCode;

fn main() -> ExitCode {
    oneke_agent::cli::main()
}
