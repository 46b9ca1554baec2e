//! The one place of the tool that starts programs.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// What a program printed.
#[derive(Debug)]
pub struct Printed {
    /// On stdout.
    pub stdout: String,
    /// On stderr.
    pub stderr: String,
}

/// Runs a program without environment and input; one that takes longer is killed.
#[expect(clippy::disallowed_methods, reason = "this is the one place of the tool that starts a program")]
pub fn run(path: &Path, args: &[&str], limit: Duration) -> Result<Printed, String> {
    let mut command = Command::new(path);
    command.args(args).env_clear().stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|e| e.to_string())?;
    let until = Instant::now() + limit;
    // Both pipes are read while it runs, or a long answer would never end.
    let (out, err) = (child.stdout.take(), child.stderr.take());
    let reader = |pipe: Option<Box<dyn std::io::Read + Send>>| {
        std::thread::spawn(move || {
            let mut bytes = Vec::new();
            let _ = pipe.map(|mut pipe| pipe.read_to_end(&mut bytes));
            String::from_utf8_lossy(&bytes).into_owned()
        })
    };
    let out = reader(out.map(|pipe| Box::new(pipe) as _));
    let err = reader(err.map(|pipe| Box::new(pipe) as _));
    while child.try_wait().map_err(|e| e.to_string())?.is_none() {
        if Instant::now() > until {
            let _ = child.kill();
            let _ = child.wait();
            return Err("it does not end".to_owned());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let text = |reader: std::thread::JoinHandle<String>| reader.join().unwrap_or_default();
    Ok(Printed { stdout: text(out), stderr: text(err) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_answer_is_read_and_a_program_that_hangs_is_ended() {
        let shell = Path::new("/bin/sh");
        let long = run(
            shell,
            &["-c", "i=0; while [ $i -lt 20000 ]; do echo 0123456789; i=$((i+1)); done"],
            Duration::from_secs(30),
        );
        assert_eq!(long.unwrap().stdout.len(), 220_000);
        assert_eq!(
            run(shell, &["-c", "while :; do :; done"], Duration::from_millis(50)).unwrap_err(),
            "it does not end"
        );
        assert!(run(Path::new("/nonexistent"), &[], Duration::from_secs(1)).is_err());
        assert_eq!(run(shell, &["-c", "echo $HOME >&2"], Duration::from_secs(5)).unwrap().stderr, "\n");
    }
}
