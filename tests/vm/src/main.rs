//! `oneke-vm`: the virtual machines' suite. In reading order: [`scenarios`] and [`ipvs`], what is proved; [`machine`],
//! what it is proved in; [`image`], what that boots; [`context`], what it is told.
#![expect(clippy::disallowed_methods, reason = "the suite is made of processes, files, sockets and time")]

mod command;
mod context;
mod image;
mod ipvs;
mod machine;
mod scenarios;

use std::process::ExitCode;
use std::time::Instant;

fn main() -> ExitCode {
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    let known = |name: &String| scenarios::ALL.iter().any(|(known, _)| known == name);
    if !wanted.iter().all(known) {
        let names: Vec<&str> = scenarios::ALL.iter().map(|(name, _)| *name).collect();
        println!("scenarios: {}", names.join(", "));
        return ExitCode::from(if wanted == ["list"] { 0 } else { 2 });
    }
    let image = match image::make() {
        Ok(image) => image,
        Err(error) => {
            eprintln!("oneke-vm: {error:#}");
            return ExitCode::FAILURE;
        }
    };
    let mut failed = 0;
    for (name, prove) in scenarios::ALL {
        if !wanted.is_empty() && !wanted.iter().any(|wanted| wanted == name) {
            continue;
        }
        println!("== {name}");
        let began = Instant::now();
        let outcome = prove(&image);
        let seconds = began.elapsed().as_secs();
        match outcome {
            Ok(()) => println!("-- {name}: passed in {seconds} s"),
            Err(error) => {
                failed += 1;
                println!("-- {name}: FAILED after {seconds} s: {error:#}");
            }
        }
    }
    ExitCode::from(u8::from(failed > 0))
}
