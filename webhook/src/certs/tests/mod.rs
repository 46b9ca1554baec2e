//! Authorities and certificates under a moved clock.

mod rotation;
mod secrets;

use k8s_openapi::api::core::v1::Secret;
use rustls::pki_types::CertificateDer;

use super::authorities::{Authorities, Stored};
use super::leaf::Leaf;
use super::plan::{self, Report, Seen, Step};
use super::{Lifetimes, ServiceName, Unix, mint, x509};

const MINUTE: Unix = 60;
const DAY: Unix = 24 * 60 * MINUTE;
/// When every story begins.
const BEGIN: Unix = 1_800_000_000;

fn name() -> ServiceName {
    ServiceName { service: "hook".into(), namespace: "ns".into(), domain: "cluster.local".into() }
}

/// A cluster as far as certificates go: two Secrets, a bundle, replicas that serve.
#[derive(Clone)]
struct World {
    now: Unix,
    authorities: Option<Secret>,
    leaf: Option<Secret>,
    published: Vec<CertificateDer<'static>>,
    /// What API servers trust: they hear of a bundle later than it is published.
    heard: Vec<CertificateDer<'static>>,
    replicas: Vec<Replica>,
}

#[derive(Clone, Default)]
struct Replica {
    serving: Option<super::pair::Pair>,
}

impl World {
    fn new() -> Self {
        let replicas = vec![Replica::default(), Replica::default()];
        Self { now: BEGIN, authorities: None, leaf: None, published: Vec::new(), heard: Vec::new(), replicas }
    }

    /// A world in which everything is in place.
    fn settled() -> Self {
        let mut world = Self::new();
        world.settle();
        world.serve();
        world.heard = world.published.clone();
        world
    }

    fn stored(&self) -> Stored<Authorities> {
        Authorities::read(self.authorities.as_ref())
    }

    fn stored_leaf(&self) -> Stored<Leaf> {
        Leaf::read(self.leaf.as_ref())
    }

    fn reports(&self) -> Vec<Report> {
        let serving = self.replicas.iter().enumerate();
        serving
            .filter_map(|(number, replica)| {
                let serial = replica.serving.as_ref()?.facts.serial.clone();
                Some(Report { replica: number.to_string(), serial, at: self.now })
            })
            .collect()
    }

    fn next(&self) -> Option<Step> {
        plan::next(&Seen {
            now: self.now,
            lifetimes: Lifetimes::default(),
            name: &name(),
            authorities: &self.stored(),
            leaf: &self.stored_leaf(),
            published: std::slice::from_ref(&self.published),
            reports: &self.reports(),
            serving: self.replicas[0].serving.as_ref(),
        })
    }

    /// Takes one step, as the keeper does.
    fn take(&mut self, step: Step) {
        let lifetimes = Lifetimes::default();
        let authorities = || self.stored().sound().cloned().unwrap();
        let stored = match step {
            Step::Mint { old, until, .. } => {
                Authorities::new(mint::authority(self.now, lifetimes.authority).unwrap(), old, until)
            }
            Step::Publish(bundle) => return self.published = bundle,
            Step::NotePublished => Authorities { published_since: Some(self.now), ..authorities() },
            Step::Issue { .. } => {
                let authorities = authorities();
                let pair = mint::leaf(&authorities.signing, &name().all(), self.now, lifetimes.leaf).unwrap();
                let leaf = Leaf { pair, authorities: authorities.bundle() };
                return leaf.write(self.leaf.get_or_insert_default());
            }
            Step::DropOld => Authorities { old: Vec::new(), ..authorities() },
        };
        stored.write(self.authorities.get_or_insert_default());
    }

    /// Takes every step that is due; their names.
    fn settle(&mut self) -> Vec<&'static str> {
        let mut taken = Vec::new();
        while let Some(step) = self.next() {
            taken.push(called(&step));
            self.take(step);
            assert!(taken.len() < 10, "{taken:?}");
        }
        taken
    }

    /// Every replica serves what is stored.
    fn serve(&mut self) {
        let stored = self.stored_leaf().sound().map(|leaf| leaf.pair.clone());
        for replica in &mut self.replicas {
            replica.serving = stored.clone().or(replica.serving.take());
        }
    }

    /// Do API servers trust every replica?
    fn check(&self) -> Result<(), String> {
        for replica in &self.replicas {
            let Some(serving) = &replica.serving else { continue };
            x509::verify(&serving.chain, &self.heard, &name().called(), self.now)?;
        }
        Ok(())
    }
}

fn called(step: &Step) -> &'static str {
    match step {
        Step::Mint { .. } => "mint",
        Step::Publish(_) => "publish",
        Step::NotePublished => "note",
        Step::Issue { .. } => "issue",
        Step::DropOld => "drop",
    }
}
