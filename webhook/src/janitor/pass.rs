//! One pass over everything that is stored: reads, and writes nothing.
//!
//! Policies and the labels of namespaces are in memory, definitions and pods pass by page by page. Each object is judged by itself,
//! and reviews come between two of them: the janitor and the listener share a thread.

use attachments::policy::Flaw;
use kube::Client;
use tokio::task::yield_now;

use super::batch::Batch;
use super::census::{Census, Outcome};
use super::conflicts::{Conflict, Elders, by_age};
use super::networks::{Owners, owners};
use super::objects::{Definitions, Pods, Policy, namespaces, policies};
use crate::cluster::{Definition, Options};

/// What a pass found.
pub struct Found {
    /// Each policy, and what it comes to.
    pub policies: Vec<(Policy, Outcome)>,
    /// Definitions that cannot stand beside elder ones.
    pub conflicts: Vec<Conflict>,
    /// What definitions say of overlays.
    pub owners: Owners,
}

/// Reads everything. The options are those of the rules.
pub async fn look(client: &Client, options: &Options) -> Result<Found, String> {
    let policies = policies(client).await?;
    let namespaces = if policies.is_empty() { Default::default() } else { namespaces(client).await? };
    let sound = policies.iter().filter_map(|policy| Some((policy.name.as_str(), policy.spec.as_ref().ok()?)));
    let (mut census, places) = Census::new(sound, namespaces, options.multus_namespace.clone());

    let mut definitions = Vec::new();
    let mut pods = census.counts_pods().then(|| Pods::new(client));
    let mut is_first = true;
    loop {
        let mut batch = Batch::default();
        if !fill(&mut batch, &mut census, &mut pods).await? && !is_first {
            break;
        }
        through_definitions(client, &mut census, &mut batch, is_first.then_some(&mut definitions)).await?;
        is_first = false;
    }

    let owners = owners(&definitions);
    let conflicts = conflicts(definitions, options).await;
    let mut places = places.into_iter();
    let mut outcome = |policy: &Policy| match &policy.spec {
        Ok(_) => places.next().unwrap_or(Err(Vec::new())).map(|place| census.counted(place)),
        Err(why) => Err(vec![Flaw { rule: None, path: "spec".to_owned(), value: String::new(), text: why.clone() }]),
    };
    let outcomes: Vec<Outcome> = policies.iter().map(&mut outcome).collect();
    Ok(Found { policies: policies.into_iter().zip(outcomes).collect(), conflicts, owners })
}

/// Fills a batch with pods that are still to come. False when none came.
async fn fill(batch: &mut Batch, census: &mut Census, pods: &mut Option<Pods>) -> Result<bool, String> {
    let mut came = false;
    while let Some(pages) = pods
        && !batch.is_full()
    {
        let Some(page) = pages.next().await? else {
            *pods = None;
            break;
        };
        came |= !page.is_empty();
        for pod in page {
            batch.add(census, pod);
            yield_now().await;
        }
    }
    Ok(came)
}

/// Judges what the pods of a batch ask of each definition; the first time each definition too, and keeps what it says to others.
async fn through_definitions(
    client: &Client,
    census: &mut Census,
    batch: &mut Batch,
    mut kept: Option<&mut Vec<Definition>>,
) -> Result<(), String> {
    let mut pages = Definitions::new(client);
    while let Some(page) = pages.next().await? {
        for stored in page {
            let Some(reference) = stored.reference() else { continue };
            for place in batch.askers(&reference) {
                batch.judge(census, place, &reference, &stored.nad());
                yield_now().await;
            }
            if let Some(kept) = &mut kept {
                census.definition(&stored.nad());
                kept.extend(stored.into_definition());
            }
            yield_now().await;
        }
    }
    Ok(())
}

async fn conflicts(mut definitions: Vec<Definition>, options: &Options) -> Vec<Conflict> {
    by_age(&mut definitions);
    let (mut elders, mut conflicts) = (Elders::new(options), Vec::new());
    for definition in definitions {
        conflicts.extend(elders.judge(definition));
        yield_now().await;
    }
    conflicts
}
