//! The CNI plugin: reads the runtime's call, serves it, prints the answer.

use std::io::{self, Write};
use std::panic;
use std::process::{self, ExitCode};

use attachments::cni::error::ErrorObject;
use attachments::cni::version::Version;
use delegates::call::Verb;
use delegates::exec;
use meta_cni::engine::{self, Output};
use meta_cni::fault::{Fault, Result};
use meta_cni::request::{self, CniRequest, Command};

/// musl's allocator returns every page at once and asks for it again; a short call is faster when it keeps its pages.
#[global_allocator]
static ALLOCATOR: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

fn main() -> ExitCode {
    answer_panics();
    run()
}

/// A panic becomes one CNI error object, and the end of the program at once: nothing unwinds, whichever thread it is. What was
/// begun stands in the record, as after a kill.
fn answer_panics() {
    let place = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        place(info);
        fail(&Fault::Bug("the plugin panicked; its log has the place".to_owned()), None, Version::NEWEST);
        process::exit(1);
    }));
}

fn run() -> ExitCode {
    let env = |name: &str| std::env::var_os(name).map(|value| value.to_string_lossy().into_owned());
    let mut args = std::env::args_os().skip(1).map(|arg| arg.to_string_lossy().into_owned());
    match args.next().as_deref() {
        Some("replay") => return serve_agent(request::read_recovery(args, env, io::stdin().lock())),
        Some("renew") => return serve_agent(request::read_renewal(args, env, io::stdin().lock())),
        Some("hotplug") => return serve_agent(request::read_hot_plug(args, env, io::stdin().lock())),
        Some("verify") => return serve_agent(request::read_verify(args, env, io::stdin().lock())),
        Some("repair") => return serve_agent(request::read_repair(args, env, io::stdin().lock())),
        Some(exec::SENDER) => {
            let is_sent = args.next().is_some_and(|message| exec::send(&message));
            return if is_sent { ExitCode::SUCCESS } else { ExitCode::FAILURE };
        }
        _ => {}
    }
    let call = match request::read(env, io::stdin().lock()) {
        Ok(Command::Call(call)) => call,
        Ok(Command::Version) => return print(&versions()),
        Ok(Command::Nothing) => return ExitCode::SUCCESS,
        Ok(Command::About) => {
            let all: Vec<&str> = Version::ALL.iter().map(|version| version.as_str()).collect();
            eprintln!("meta-cni {}, a multi-network CNI plugin", env!("CARGO_PKG_VERSION"));
            eprintln!("CNI protocol versions supported: {}", all.join(", "));
            return ExitCode::SUCCESS;
        }
        Err(fault) => {
            let verb = env("CNI_COMMAND").filter(|command| command == "DEL").map(|_| Verb::Del);
            return fail(&fault, verb, Version::NEWEST);
        }
    };
    finish(engine::serve(&call), call.operation.verb(), call.version)
}

/// What the node agent calls. A replay fails only if it cannot begin; records that are left are in its report.
fn serve_agent(read: Result<CniRequest>) -> ExitCode {
    finish(read.and_then(|call| engine::serve(&call)), None, Version::NEWEST)
}

fn finish(served: Result<Option<Output>>, verb: Option<Verb>, version: Version) -> ExitCode {
    match served {
        Ok(Some(output)) => print(&output),
        Ok(None) => ExitCode::SUCCESS,
        Err(fault) => fail(&fault, verb, version),
    }
}

/// The answer to VERSION (C33).
fn versions() -> serde_json::Value {
    let all: Vec<&str> = Version::ALL.iter().map(|version| version.as_str()).collect();
    serde_json::json!({ "cniVersion": Version::NEWEST.as_str(), "supportedVersions": all })
}

fn fail(fault: &Fault, verb: Option<Verb>, version: Version) -> ExitCode {
    let object: ErrorObject = fault.to_object(verb, version);
    print(&object);
    ExitCode::FAILURE
}

/// Prints the one JSON object of the specification (A41). A closed stdout is a failure.
fn print(answer: &impl serde::Serialize) -> ExitCode {
    let mut out = io::stdout().lock();
    let printed = serde_json::to_writer(&mut out, answer).map_err(io::Error::from).and_then(|()| {
        out.write_all(b"\n")?;
        out.flush()
    });
    if printed.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
