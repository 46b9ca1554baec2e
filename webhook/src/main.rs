//! The webhook's program: what the Deployment runs.

use std::net::SocketAddr;
use std::process::ExitCode;

use attachments::text::printable;
use clap::Parser;
use meta_cni_kube::log;

/// musl's allocator is slow and keeps a heap that grows with every burst; this is the agent's too.
#[global_allocator]
static ALLOCATOR: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

/// The admission webhook of meta-cni: what would fail at a pod's start is refused when it is applied.
#[derive(Debug, Parser)]
#[command(
    version,
    after_help = "meta-cni-webhook log-level [LEVEL] sets the level of the webhook that runs in the same pod."
)]
struct Arguments {
    #[command(flatten)]
    log: log::Options,
    #[command(flatten)]
    options: webhook::Options,
}

/// Sets the level of the log of the webhook that runs in this pod, until it restarts.
#[derive(Debug, Parser)]
#[command(name = "meta-cni-webhook log-level")]
struct LevelArguments {
    /// As `--log-level` has it. Without it, that of the flag again.
    #[arg(value_name = "LEVEL", default_value = "")]
    level: String,
    /// Where the webhook tells its metrics.
    #[arg(long, env = "META_CNI_ADMIN", value_name = "ADDRESS", default_value = "[::]:9464")]
    admin: SocketAddr,
}

fn main() -> ExitCode {
    let done = match std::env::args_os().nth(1) {
        Some(first) if first == "log-level" => {
            let LevelArguments { level, admin } = LevelArguments::parse_from(std::env::args_os().skip(1));
            webhook::serve::admin::tell_level(admin, &level)
        }
        _ => {
            let arguments = Arguments::parse();
            let levels = log::start(&arguments.log);
            webhook::run(&arguments.options, levels).map_err(|error| error.to_string())
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("meta-cni-webhook: {}", printable(&error));
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
