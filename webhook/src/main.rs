//! The webhook's program: what the Deployment runs.

use std::process::ExitCode;

use attachments::text::printable;
use clap::Parser;
use meta_cni_kube::log;

/// musl's allocator is slow and keeps a heap that grows with every burst; this is the agent's too.
#[global_allocator]
static ALLOCATOR: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

/// The admission webhook of meta-cni: what would fail at a pod's start is refused when it is applied.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    #[command(flatten)]
    log: log::Options,
    #[command(flatten)]
    options: webhook::Options,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    log::start(&arguments.log);
    match webhook::run(&arguments.options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("meta-cni-webhook: {}", printable(&error.to_string()));
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn every_flag_is_one_that_clap_takes() {
        Arguments::command().debug_assert();
        let parsed =
            |flags: &[&str]| Arguments::try_parse_from(["meta-cni-webhook", "--replica", "r"].iter().chain(flags));
        let options = parsed(&[]).unwrap().options;
        assert_eq!((options.listen.port(), options.admin.port()), (9443, 9464));
        assert_eq!(options.name().called(), "meta-cni-webhook.meta-cni.svc");
        let wrong = parsed(&["--shutdown-delay", "5s"]).unwrap_err().to_string();
        assert!(wrong.contains("want whole seconds"), "{wrong}");
    }
}
