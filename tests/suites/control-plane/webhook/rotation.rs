//! Certificates under a moved clock, with an API server that asks all the while.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::thread;
use std::time::Duration;

use meta_cni_kube::log;
use tokio::sync::oneshot;
use webhook::certs::{Lifetimes, clock};
use webhook::janitor::JanitorOptions;
use webhook::{Options, Times};

use super::world::{LEAF, World};

const MINUTE: i64 = 60;

/// Lives of half an hour: the API server's clock is not moved, and every certificate must be good for it too. They are valid from
/// an hour before they were made.
const LIVES: Lifetimes = Lifetimes {
    authority: Duration::from_secs(30 * 60),
    leaf: Duration::from_secs(12 * 60),
    spread: Duration::from_secs(2 * 60),
};

fn options(world: &World, number: u16) -> Options {
    let (listen, admin) = World::addresses(number);
    Options {
        listen: listen.parse().unwrap(),
        admin: admin.parse().unwrap(),
        service: "meta-cni-webhook".to_owned(),
        namespace: "meta-cni".to_owned(),
        cluster_domain: "cluster.local".to_owned(),
        replica: format!("replica-{number}"),
        configuration: "meta-cni-webhook".to_owned(),
        tls_secret: None,
        shutdown_delay: Duration::ZERO,
        mutate: Default::default(),
        kubeconfig: Some(world.kubeconfig()),
        client_ca: None,
        rules: webhook::RuleOptions::default(),
        janitor: JanitorOptions::default(),
    }
}

#[test]
fn authority_and_certificate_are_replaced_and_no_request_notices() {
    let world = World::new();
    let moved = Arc::new(AtomicI64::new(0));
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let mut ends = Vec::new();
        for number in [0, 1] {
            let (end, ended) = oneshot::channel::<()>();
            ends.push(end);
            let (options, moved, space) = (options(&world, number), Arc::clone(&moved), world.plane.space());
            let levels = log::start(&log::Options { level: "info".parse().unwrap(), format: log::Format::Text });
            let now = clock();
            let clock = Arc::new(move || now() + moved.load(Ordering::Relaxed));
            let times = Times { clock, lifetimes: LIVES, pause: Duration::from_millis(200) };
            scope.spawn(move || {
                space.within(|| {
                    webhook::run_until(&options, &times, levels, async {
                        let _ = ended.await;
                    })
                    .unwrap();
                });
            });
            world.serve(number, true);
        }
        for number in [0, 1] {
            world.until_ready(number);
        }
        world.until_in_force();

        let asked = scope.spawn(|| {
            let (api, mut asked) = (world.plane.api(), 0);
            while !over.load(Ordering::Relaxed) {
                match world.try_bad(&api) {
                    Err(refusal) if refusal.code == 422 => asked += 1,
                    other => return Err(format!("after {asked} requests: {other:?}")),
                }
            }
            Ok(asked)
        });
        let (mut certificates, mut bundles, mut lengths) = (BTreeSet::new(), BTreeSet::new(), Vec::new());
        for _ in 0..40 {
            moved.fetch_add(MINUTE, Ordering::Relaxed);
            thread::sleep(Duration::from_millis(500));
            let secret = world.plane.api().get(LEAF).unwrap();
            certificates.insert(secret["data"]["tls.crt"].to_string());
            let bundle = world.bundles().remove(0);
            if lengths.last() != Some(&bundle.len()) {
                lengths.push(bundle.len());
            }
            bundles.insert(bundle);
        }
        over.store(true, Ordering::Relaxed);
        let asked = asked.join().unwrap();
        // Replicas go before anything can fail, or the scope would wait for them for ever.
        drop(ends);
        let asked = asked.unwrap();
        assert!(asked > 20, "{asked}");
        // A new authority, both, the new one alone.
        assert!(bundles.len() >= 3, "{bundles:?}");
        assert!(lengths.len() >= 3 && lengths[1] > lengths[0] && lengths[2] < lengths[1], "{lengths:?}");
        assert!(certificates.len() >= 4, "{}", certificates.len());
    });
}
