//! Chooses the default network among the files of the runtime's directory. A pure function.

use std::fmt::Write;

use attachments::cni::conf::NetworkConf;
use attachments::finding::Finding;
use attachments::meta_plugins::is_meta;

/// A file that the runtime reads.
#[derive(Clone, Debug, PartialEq)]
pub struct Seen {
    /// Its name in the directory.
    pub file: String,
    /// Its configuration, or why it cannot be read.
    pub conf: Result<NetworkConf, Finding>,
}

/// The input of a choice.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// File name or network name of the default network, if the administrator names one.
    pub primary: Option<&'a str>,
    /// The file that was chosen before.
    pub kept: Option<&'a str>,
    /// Name of our own file.
    pub ours: &'a str,
    /// The directory has not changed for long enough to choose from it.
    pub settled: bool,
}

/// The choice.
#[derive(Clone, Debug, PartialEq)]
pub enum Choice<'a> {
    /// A file, and the reason.
    Chosen(&'a Seen, String),
    /// No file yet, and what is waited for.
    Waits(String),
}

/// Chooses the file that the administrator names; else the file that was chosen before, while it exists; else the first usable file
/// by name, once the directory is settled.
pub fn choose<'a>(seen: &'a [Seen], asked: &Asked<'_>) -> Choice<'a> {
    let others: Vec<&Seen> = seen.iter().filter(|file| file.file != asked.ours).collect();
    if let Some(wanted) = asked.primary {
        let named = |file: &&&Seen| file.file == wanted;
        let speaks = |file: &&&Seen| {
            file.conf.as_ref().is_ok_and(|conf| conf.name.as_ref().is_some_and(|name| name.as_str() == wanted))
        };
        return match others.iter().find(named).or_else(|| others.iter().find(speaks)) {
            Some(file) => taken(file, "--primary names it".to_owned()),
            None => Choice::Waits(format!(
                "--primary: got {wanted:?}, want the file or network name of a configuration that is there{}",
                listed(&others)
            )),
        };
    }
    if let Some(file) = asked.kept.and_then(|kept| others.iter().find(|file| file.file == kept)) {
        return taken(file, "it was chosen before".to_owned());
    }
    let Some(first) = others.iter().find(|file| unusable(file).is_none()) else {
        let mut why = "the default network's configuration".to_owned();
        for file in &others {
            let _ = write!(why, "; {}", unusable(file).unwrap_or_default());
        }
        return Choice::Waits(why);
    };
    if !asked.settled {
        return Choice::Waits(format!("the directory to settle before {} is chosen", first.file));
    }
    let mut why = "the first usable file by name".to_owned();
    if let Some(kept) = asked.kept {
        let _ = write!(why, ", for the former choice {kept} is gone");
    }
    for file in others.iter().filter(|file| file.file != first.file) {
        match unusable(file) {
            Some(reason) => _ = write!(why, "; passed over: {reason}"),
            None => _ = write!(why, "; {} was another candidate (--primary names one)", file.file),
        }
    }
    Choice::Chosen(first, why)
}

/// Files that the runtime takes before ours: pods would silently get their default network alone.
pub fn ahead<'a>(seen: &'a [Seen], ours: &str) -> Vec<&'a str> {
    seen.iter().map(|file| file.file.as_str()).filter(|file| *file < ours).collect()
}

fn taken(file: &Seen, why: String) -> Choice<'_> {
    match unusable(file) {
        None => Choice::Chosen(file, why),
        Some(reason) => Choice::Waits(format!("a usable default network, {why}: {reason}")),
    }
}

/// Why a file cannot be the default network; starts with its name.
fn unusable(file: &Seen) -> Option<String> {
    match &file.conf {
        Err(finding) => Some(finding.clone().under(&file.file).to_string()),
        Ok(conf) => {
            let kinds = conf.plugins.iter().map(|plugin| plugin.kind.as_str());
            let meta = kinds.into_iter().find(|kind| is_meta(kind))?;
            Some(format!("{}: type: got {meta:?}, want a plugin that makes a network itself", file.file))
        }
    }
}

fn listed(files: &[&Seen]) -> String {
    if files.is_empty() {
        return String::new();
    }
    let name = |file: &&Seen| match &file.conf {
        Ok(NetworkConf { name: Some(name), .. }) => format!("{} ({name})", file.file),
        _ => file.file.clone(),
    };
    format!(": {}", files.iter().map(name).collect::<Vec<_>>().join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: &str = "00-meta-cni.conflist";

    fn file(name: &str, text: &str) -> Seen {
        Seen { file: name.to_owned(), conf: NetworkConf::parse(text.as_bytes()) }
    }

    fn flannel() -> Seen {
        file("10-flannel.conflist", r#"{"name":"cbr0","plugins":[{"type":"flannel"}]}"#)
    }

    fn calico() -> Seen {
        file("10-calico.conflist", r#"{"name":"k8s-pod-network","plugins":[{"type":"calico"}]}"#)
    }

    fn nothing() -> Asked<'static> {
        Asked { primary: None, kept: None, ours: OURS, settled: true }
    }

    fn chosen(seen: &[Seen], asked: &Asked<'_>) -> (String, String) {
        match choose(seen, asked) {
            Choice::Chosen(file, why) => (file.file.clone(), why),
            Choice::Waits(why) => (String::new(), why),
        }
    }

    #[test]
    fn the_first_usable_file_is_chosen_and_the_reason_names_the_others() {
        let seen = [
            file(OURS, r#"{"name":"meta-cni","plugins":[{"type":"meta-cni"}]}"#),
            file("00-multus.conf", r#"{"name":"m","type":"multus-shim"}"#),
            file("05-half.conflist", "{"),
            calico(),
            flannel(),
        ];
        let (first, why) = chosen(&seen, &nothing());
        assert_eq!(first, "10-calico.conflist");
        assert!(why.contains("10-flannel.conflist was another candidate"), "{why}");
        assert!(why.contains("passed over: 00-multus.conf: type: got \"multus-shim\""), "{why}");
        assert!(why.contains("passed over: 05-half.conflist: got invalid JSON"), "{why}");
    }

    #[test]
    fn the_first_choice_waits_until_the_directory_is_settled() {
        let asked = Asked { settled: false, ..nothing() };
        assert!(chosen(&[flannel()], &asked).1.contains("to settle before 10-flannel.conflist"));
        let asked = Asked { settled: false, kept: Some("10-flannel.conflist"), ..nothing() };
        assert_eq!(chosen(&[calico(), flannel()], &asked).0, "10-flannel.conflist");
    }

    #[test]
    fn a_choice_is_kept_until_its_file_is_gone() {
        let asked = Asked { kept: Some("10-flannel.conflist"), ..nothing() };
        assert_eq!(chosen(&[calico(), flannel()], &asked).0, "10-flannel.conflist");
        let (next, why) = chosen(&[calico()], &asked);
        assert_eq!(next, "10-calico.conflist");
        assert!(why.contains("the former choice 10-flannel.conflist is gone"), "{why}");
        let broken = file("10-flannel.conflist", "{");
        assert!(
            chosen(&[calico(), broken], &asked)
                .1
                .contains("it was chosen before: 10-flannel.conflist: got invalid JSON")
        );
    }

    #[test]
    fn a_wish_is_a_file_or_a_network_and_counts_alone() {
        let seen = [calico(), flannel()];
        for wish in ["cbr0", "10-flannel.conflist"] {
            let asked = Asked { primary: Some(wish), kept: Some("10-calico.conflist"), ..nothing() };
            assert_eq!(chosen(&seen, &asked).0, "10-flannel.conflist", "{wish}");
        }
        let (_, why) = chosen(&seen, &Asked { primary: Some("cilium"), ..nothing() });
        assert!(why.starts_with("--primary: got \"cilium\"") && why.ends_with("10-flannel.conflist (cbr0)"), "{why}");
    }

    #[test]
    fn an_empty_directory_is_waited_for() {
        assert_eq!(chosen(&[], &nothing()).1, "the default network's configuration");
        assert!(chosen(&[file("10-a.conf", "")], &nothing()).1.contains("; 10-a.conf: got invalid JSON"));
    }

    #[test]
    fn files_ahead_of_ours_are_named_by_the_order_of_the_runtime() {
        let seen = [file("00-calico.conflist", "{"), flannel()];
        assert_eq!(ahead(&seen, OURS), ["00-calico.conflist"]);
    }
}
