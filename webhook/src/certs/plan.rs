//! What is to be done next. Pure: the same time, Secrets, bundles and reports give the same step.
//!
//! Every step is one write, and whoever reads the outcome finds the next one: a leader may be killed between any two of them,
//! and two leaders at once lose a write and read again.
//!
//! A new authority is published before its first certificate is served, for [`Lifetimes::spread`]; the earlier one stays in the
//! bundle until its last certificate has expired and no replica serves one. So at any time an API server, which may be as far
//! behind as the spread, trusts what any replica serves.

use rustls::pki_types::CertificateDer;

use super::authorities::{Authorities, Stored};
use super::leaf::Leaf;
use super::mint::{AUTHORITY, BACKDATED};
use super::pair::Pair;
use super::x509::{self, Facts};
use super::{Lifetimes, ServiceName, Unix, seconds};

/// A replica that was not heard of for so long is gone. Replicas report every [`REPORTED`].
const GONE: Unix = 15 * 60;
/// How often a replica reports.
pub const REPORTED: Unix = 5 * 60;

/// What a replica says that it serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Name of the replica.
    pub replica: String,
    /// Serial number of its certificate.
    pub serial: String,
    /// When it said so.
    pub at: Unix,
}

impl Report {
    /// Has the replica been heard of lately?
    fn is_live(&self, now: Unix) -> bool {
        self.at.saturating_add(GONE) > now
    }
}

/// Everything that a step depends on.
#[derive(Debug)]
pub struct Seen<'a> {
    /// The time.
    pub now: Unix,
    /// How long things live.
    pub lifetimes: Lifetimes,
    /// How we are called.
    pub name: &'a ServiceName,
    /// The Secret of the authority.
    pub authorities: &'a Stored<Authorities>,
    /// The Secret of the certificate that is to be served.
    pub leaf: &'a Stored<Leaf>,
    /// `caBundle` of each webhook that is registered.
    pub published: &'a [Vec<CertificateDer<'static>>],
    /// What the replicas report.
    pub reports: &'a [Report],
    /// What this replica serves.
    pub serving: Option<&'a Pair>,
}

/// One write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Store a new authority that signs from now on; these stay trusted until a time.
    Mint {
        /// Earlier authorities.
        old: Vec<CertificateDer<'static>>,
        /// Until then.
        until: Unix,
        /// Why, for the log.
        why: String,
    },
    /// Put this into `caBundle` of every webhook.
    Publish(Vec<CertificateDer<'static>>),
    /// Store that the authority is in every bundle from now on.
    NotePublished,
    /// Store a new certificate of the authority.
    Issue {
        /// Why, for the log.
        why: String,
    },
    /// Store that earlier authorities are trusted no more.
    DropOld,
}

/// The next step, if one is due.
pub fn next(seen: &Seen<'_>) -> Option<Step> {
    let Some(authorities) = seen.authorities.sound() else { return Some(replace_lost(seen)) };
    let signing = &authorities.signing.facts;
    if seen.now >= renewal(signing) || seen.now < signing.not_before {
        return Some(mint(seen, authorities.bundle(), "the authority is two thirds through its time"));
    }
    let bundle = authorities.bundle();
    if seen.published.iter().any(|published| *published != bundle) {
        return Some(Step::Publish(bundle));
    }
    if authorities.published_since.is_none() && !seen.published.is_empty() {
        return Some(Step::NotePublished);
    }
    let leaf = match usable(seen, &bundle) {
        Ok(leaf) => leaf,
        Err(why) => return Some(Step::Issue { why }),
    };
    let under_signing = seen.trusts(leaf, &[authorities.signing.certificate()]).is_ok();
    let due = if !under_signing {
        Some("its authority signs no more")
    } else if seen.now >= renewal(&leaf.pair.facts) {
        Some("it is two thirds through its time")
    } else {
        None
    };
    let is_known = |since: Unix| seen.now >= since.saturating_add(seconds(seen.lifetimes.spread));
    if let Some(why) = due {
        return authorities.published_since.is_some_and(is_known).then(|| Step::Issue { why: why.to_owned() });
    }
    let served_elsewhere = |report: &Report| report.is_live(seen.now) && report.serial != leaf.pair.facts.serial;
    let is_over = seen.now >= authorities.old_until && !seen.reports.iter().any(served_elsewhere);
    (!authorities.old.is_empty() && is_over).then_some(Step::DropOld)
}

/// The authority is lost, or half written. Whoever can be trusted still, because a certificate of theirs may be served, stays.
fn replace_lost(seen: &Seen<'_>) -> Step {
    let (mut old, why) = match seen.authorities {
        Stored::Broken(why, readable) => (readable.clone(), format!("its Secret cannot be used: {why}")),
        _ => (Vec::new(), "there is none".to_owned()),
    };
    match seen.leaf {
        Stored::Sound(leaf) => old.extend(leaf.authorities.iter().cloned()),
        Stored::Broken(_, readable) => old.extend(readable.iter().cloned()),
        Stored::Absent => {}
    }
    // A bundle may hold what is not ours; whoever vouches for what we serve is. What another replica serves is known by its serial
    // number alone, so that there every authority of ours stays.
    let serving = seen.serving.map(|serving| &serving.facts.serial);
    let others = seen.reports.iter().any(|report| report.is_live(seen.now) && Some(&report.serial) != serving);
    let is_ours = |root: &CertificateDer<'static>| {
        x509::read(root).is_ok_and(|facts| facts.is_authority && facts.subject.starts_with(AUTHORITY))
    };
    let vouches = |root: &CertificateDer<'static>| {
        let root = std::slice::from_ref(root);
        seen.serving.is_some_and(|pair| x509::verify(&pair.chain, root, &seen.name.called(), seen.now).is_ok())
    };
    let stays = |root: &&CertificateDer<'static>| vouches(root) || others && is_ours(root);
    old.extend(seen.published.iter().flatten().filter(stays).cloned());
    mint(seen, old, &why)
}

fn mint(seen: &Seen<'_>, old: Vec<CertificateDer<'static>>, why: &str) -> Step {
    let lives = |old: &CertificateDer<'static>| x509::read(old).is_ok_and(|facts| facts.not_after > seen.now);
    let old = old.into_iter().filter(lives).collect();
    // No certificate of an earlier authority is issued after this write, and none lives longer than that.
    let until = seen.now.saturating_add(seconds(seen.lifetimes.leaf));
    Step::Mint { old, until, why: why.to_owned() }
}

/// The stored certificate, if an API server that trusts the bundle takes it now.
fn usable<'a>(seen: &Seen<'a>, bundle: &[CertificateDer<'static>]) -> Result<&'a Leaf, String> {
    let leaf = match seen.leaf {
        Stored::Absent => return Err("there is none".to_owned()),
        Stored::Broken(why, _) => return Err(format!("its Secret cannot be used: {why}")),
        Stored::Sound(leaf) => leaf,
    };
    let mut names = seen.name.all();
    names.sort();
    if leaf.pair.facts.names != names {
        return Err(format!("it is for {}", leaf.pair.facts.names.join(", ")));
    }
    seen.trusts(leaf, bundle)?;
    Ok(leaf)
}

impl Seen<'_> {
    fn trusts(&self, leaf: &Leaf, roots: &[CertificateDer<'static>]) -> Result<(), String> {
        x509::verify(&leaf.pair.chain, roots, &self.name.called(), self.now)
    }
}

/// When a certificate is renewed: at two thirds of its time, less up to a twentieth that its serial number decides, so that
/// the clusters of one evening are not renewed in one night.
fn renewal(facts: &Facts) -> Unix {
    let made = facts.not_before.saturating_add(seconds(BACKDATED)).min(facts.not_after);
    let lifetime = facts.not_after - made;
    let tail = facts.serial.get(facts.serial.len().saturating_sub(4)..).unwrap_or_default();
    let jitter = Unix::from_str_radix(tail, 16).unwrap_or_default().rem_euclid(1000);
    made + lifetime / 3 * 2 - lifetime / 20 * jitter / 1000
}
