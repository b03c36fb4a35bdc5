//! `sockmem-bench`: what `cargo xtask bench` measures inside a process of its own, where the
//! programs can be attached without the tool around them. Results are one JSON document on stdout.
//!
//!     sockmem-bench hooks [ROUNDS [SCRIPT]]   ns per run of the programs, case by case
//!     sockmem-bench model                     records per second through the model, and from the ring
//!     sockmem-bench recording write LOAD EVENTS FILE | read FILE | report FILE
//!     sockmem-bench loads                     instructions of every program, and those verified
//!     sockmem-bench attach                    time to attach, with none and with 10,000 sockets
//!     sockmem-bench memory SOCKETS            heap and time of a model and a picture of so many
//!     sockmem-bench programs                  run statistics of every program, per line of stdin
//!     sockmem-bench fleet SOCKETS             that many quiet sockets, until stdin ends
//!     sockmem-bench churn RATE SECONDS        that many connections a second, opened and closed
//!     sockmem-bench work                      the sends and reads that `hooks` asks for
//!     sockmem-bench echo-server | echo-client PORT CONNECTIONS SECONDS
//!     sockmem-bench sink-server | sink-client PORT SECONDS

mod attached;
mod heap;
mod hooks;
mod kernel;
mod load;
mod model;
mod parts;
mod recording;
mod work;

use std::process::ExitCode;

use anyhow::{Context, Result, bail};

fn number<T: std::str::FromStr>(args: &[String], at: usize, what: &str) -> Result<T> {
    args.get(at)
        .and_then(|a| a.parse().ok())
        .with_context(|| format!("argument {at} must be {what}"))
}

fn run(args: &[String]) -> Result<()> {
    let what = args.first().map_or("", String::as_str);
    match what {
        "hooks" => {
            let rounds = if args.len() > 1 {
                number(args, 1, "a number of rounds")?
            } else {
                5
            };
            println!(
                "{}",
                hooks::measure(rounds, args.get(2).map(String::as_str))?
            );
        }
        "model" => println!("{}", model::measure()?),
        "recording" => {
            let word = |at: usize| args.get(at).map_or("", String::as_str);
            let result = match word(1) {
                "write" => recording::write(
                    word(2),
                    number(args, 3, "a number of events")?,
                    word(4).as_ref(),
                )?,
                how => recording::read(word(2).as_ref(), how == "report")?,
            };
            println!("{result}");
        }
        "loads" => println!("{}", attached::loads()?),
        "memory" => println!(
            "{}",
            parts::measure(number(args, 1, "a number of sockets")?)?
        ),
        "churn" => load::churn(
            number(args, 1, "connections a second")?,
            number(args, 2, "seconds")?,
        )?,
        "attach" => println!("{}", attached::times()?),
        "programs" => kernel::serve()?,
        "fleet" => load::fleet(number(args, 1, "a number of sockets")?)?,
        "work" => work::serve()?,
        "echo-server" => load::echo_server()?,
        "echo-client" => {
            let report = load::echo_client(
                number(args, 1, "a port")?,
                number(args, 2, "a number of connections")?,
                number(args, 3, "seconds")?,
            )?;
            println!("{report}");
        }
        "sink-server" => load::sink_server()?,
        "sink-client" => {
            let report =
                load::sink_client(number(args, 1, "a port")?, number(args, 2, "seconds")?)?;
            println!("{report}");
        }
        _ => bail!("it is run by `cargo xtask bench`; {what:?} is none of its commands"),
    }
    Ok(())
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("sockmem-bench: {e:#}");
            ExitCode::FAILURE
        }
    }
}
