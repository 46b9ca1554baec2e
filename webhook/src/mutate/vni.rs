//! VNIs for definitions that name none.

use std::time::Instant;

use attachments::names::NetRef;
use attachments::policy::spec::VniRange;
use attachments::rule::Rule;
use attachments::text::hash;
use delegates::lint::{CONFIG, Kind, Problem};

use super::Opened;
use super::config_text::{Gap, Overlay, Vni, overlays, with_vnis};
use super::drawn::{Drawn, Identifier};
use crate::cluster::{Claim, Common, Pair, View};
use crate::rules::{Operation, Request};

/// From where VNIs are drawn, and for whom.
#[derive(Clone, Copy, Debug)]
pub struct Draw<'a> {
    /// `--vni-range`.
    pub range: VniRange,
    /// What the level of the definition's namespace opens; absent where it opens everything.
    pub opened: Option<&'a Opened>,
    /// What was drawn a moment ago.
    pub drawn: &'a Drawn,
    /// The time.
    pub now: Instant,
    /// The uid of the request.
    pub uid: &'a str,
    /// Nothing of what is done may last.
    pub is_dry_run: bool,
    /// What another definition has by now, whatever the caches say: it was claimed in vain.
    pub taken: &'a [Identifier],
}

/// A configuration with the VNIs that it lacked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Completed {
    /// The text.
    pub text: String,
    /// What was drawn, and the definition in whose name it is to be claimed. Nothing is claimed for one whose name is to be made up.
    pub drawn: Vec<(Pair, NetRef)>,
}

/// The text of a definition's configuration with the VNIs that it lacks; nothing where it lacks none, and what is wrong.
pub(super) fn complete(request: &Request<'_>, draw: &Draw<'_>, view: &View) -> Result<Option<Completed>, Vec<Problem>> {
    let Some(text) = request.object["spec"]["config"].as_str() else { return Ok(None) };
    let found = overlays(text);
    if !found.iter().any(|overlay| matches!(overlay.vni, Vni::Absent(_))) {
        return Ok(None);
    }
    let before = match (request.operation, request.old.and_then(|old| old["spec"]["config"].as_str())) {
        (Operation::Update, Some(text)) => overlays(text),
        _ => Vec::new(),
    };
    let mut given: Vec<Pair> = Vec::new();
    for overlay in &found {
        if let Vni::Written(Some(vni)) = overlay.vni {
            given.push((overlay.port, vni));
        }
    }
    let (mut written, mut problems): (Vec<(&Gap, u32)>, Vec<Problem>) = (Vec::new(), Vec::new());
    let mut drawn = Vec::new();
    let own = Own::of(request, draw).map_err(|why| {
        let lacking = found.iter().find(|overlay| matches!(overlay.vni, Vni::Absent(_)));
        lacking.map(|overlay| refusal(overlay, why)).into_iter().collect::<Vec<_>>()
    })?;
    let is_new = request.operation == Operation::Create;
    for (i, overlay) in found.iter().enumerate() {
        let Vni::Absent(gap) = &overlay.vni else { continue };
        // Whoever applies the same text again means the same network.
        let kept = match before.get(i).map(|overlay| &overlay.vni) {
            Some(Vni::Written(kept)) => kept.filter(|vni| !given.contains(&(overlay.port, *vni))),
            _ => None,
        };
        // So does whoever owns a claim: the text was lost, and not the network.
        let kept = kept.or_else(|| own.claimed(is_new, overlay, &given, draw, view));
        let vni = match kept {
            Some(vni) => Ok(vni),
            None => own.draw(overlay, i, &given, draw, view),
        };
        match vni {
            Ok(vni) => {
                if kept.is_none() && own.is_named {
                    drawn.push(((overlay.port, vni), own.reference.clone()));
                }
                given.push((overlay.port, vni));
                written.push((gap, vni));
            }
            Err(problem) => problems.push(problem),
        }
    }
    if problems.is_empty() { Ok(Some(Completed { text: with_vnis(text, &written), drawn })) } else { Err(problems) }
}

/// The definition for which VNIs are drawn.
struct Own {
    /// It stands beside no other of its name.
    reference: NetRef,
    /// The API server has not to make its name up.
    is_named: bool,
    /// From where the first VNI that is tried follows.
    seed: String,
}

impl Own {
    fn of(request: &Request<'_>, draw: &Draw<'_>) -> Result<Self, &'static str> {
        let name = [request.name, request.object["metadata"]["name"].as_str().unwrap_or_default()];
        let name = name.into_iter().find(|name| !name.is_empty());
        let reference = NetRef {
            namespace: request.namespace.parse().map_err(|_| "the namespace has no name that is one")?,
            name: name.unwrap_or("0-unnamed").parse().map_err(|_| "the definition has no name that is one")?,
        };
        // One whose name is to be made up is nobody's but the request's.
        let seed = format!("{}/{}", request.namespace, name.unwrap_or(draw.uid));
        Ok(Self { reference, is_named: name.is_some(), seed })
    }

    /// May this definition have the pair, as far as is known?
    fn may_have(&self, pair: Pair, given: &[Pair], draw: &Draw<'_>, view: &View) -> bool {
        let is_reserved = view.options.reserved_pairs.iter().any(|(port, vni, _)| (*port, *vni) == pair);
        let is_foreign = |claim: &Claim| !self.is_named || *claim.owner != *self.reference.to_string();
        !is_reserved
            && !given.contains(&pair)
            && !draw.taken.contains(&Identifier::Pair(pair))
            && !view.claims().get(pair).is_some_and(is_foreign)
            && view.others(&Common::Pair(pair.0, pair.1), &self.reference).next().is_none()
            && !super::tenant::is_given(pair, view)
    }

    /// A VNI that the definition owns already. On an update that is what it has, whatever may be drawn.
    fn claimed(&self, is_new: bool, overlay: &Overlay, given: &[Pair], draw: &Draw<'_>, view: &View) -> Option<u32> {
        let pool = Pool::of(draw.range, draw.opened);
        let may_be_had = |pair: &Pair| match is_new {
            true => pool.contains(pair.1) && self.may_have(*pair, given, draw, view),
            false => !given.contains(pair),
        };
        let mut owned = view.claims().of(&self.reference).filter(|(port, _)| self.is_named && *port == overlay.port);
        owned.find(may_be_had).map(|(_, vni)| vni)
    }

    /// Draws one VNI. The first that is tried follows from the definition's name: applied anew, to this cluster or another, the
    /// definition gets the same again.
    fn draw(
        &self,
        overlay: &Overlay,
        index: usize,
        given: &[Pair],
        draw: &Draw<'_>,
        view: &View,
    ) -> Result<u32, Problem> {
        let pool = Pool::of(draw.range, draw.opened);
        let is_free = |vni: u32| {
            let pair = (overlay.port, vni);
            self.may_have(pair, given, draw, view) && draw.drawn.reserve(pair, &self.seed, draw.now, draw.is_dry_run)
        };
        let seed = if index == 0 { hash(&self.seed) } else { hash(&format!("{}/{index}", self.seed)) };
        pool.probe(seed, is_free).ok_or_else(|| refusal(overlay, &pool.exhausted(overlay.port, draw)))
    }
}

fn refusal(overlay: &Overlay, text: &str) -> Problem {
    let problem = Problem::of(Rule::NoVniLeft, Kind::Required, "vni", "", text);
    problem.under(&overlay.at).under(CONFIG)
}

/// The VNIs that may be drawn: ranges in order that have nothing in common.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Pool(Vec<(u32, u32)>);

impl Pool {
    fn of(range: VniRange, opened: Option<&Opened>) -> Self {
        let Some(opened) = opened else { return Self(vec![(range.min, range.max)]) };
        let within = |of: &VniRange| (of.min.max(range.min), of.max.min(range.max));
        let mut ranges: Vec<(u32, u32)> = opened.ranges.iter().map(within).filter(|(min, max)| min <= max).collect();
        ranges.sort_unstable();
        let mut apart: Vec<(u32, u32)> = Vec::with_capacity(ranges.len());
        for (min, max) in ranges {
            match apart.last_mut() {
                Some((_, last)) if min <= *last => *last = max.max(*last),
                _ => apart.push((min, max)),
            }
        }
        Self(apart)
    }

    fn size(&self) -> u64 {
        self.0.iter().map(|(min, max)| u64::from(max - min) + 1).sum()
    }

    fn contains(&self, vni: u32) -> bool {
        self.0.iter().any(|(min, max)| (*min..=*max).contains(&vni))
    }

    /// The VNI of this number, from 0 on.
    fn nth(&self, mut number: u64) -> Option<u32> {
        for (min, max) in &self.0 {
            let length = u64::from(max - min) + 1;
            match u32::try_from(number) {
                Ok(number) if u64::from(number) < length => return Some(min + number),
                _ => number -= length,
            }
        }
        None
    }

    /// The first VNI that is free, from where the seed says. As many are tried as are taken, and one more.
    fn probe(&self, seed: u64, mut is_free: impl FnMut(u32) -> bool) -> Option<u32> {
        let size = self.size();
        let first = seed.checked_rem(size)?;
        (0..size).filter_map(|step| self.nth((first + step) % size)).find(|vni| is_free(*vni))
    }

    fn exhausted(&self, port: u16, draw: &Draw<'_>) -> String {
        let shown = |ranges: &[(u32, u32)]| -> String {
            let one = |(min, max): &(u32, u32)| if min == max { min.to_string() } else { format!("{min}-{max}") };
            ranges.iter().map(one).collect::<Vec<String>>().join(", ")
        };
        let range = shown(&[(draw.range.min, draw.range.max)]);
        let Some(Opened { level, ranges }) = draw.opened else {
            return format!(
                "no VNI of {range} is free on UDP port {port}; delete a network, set a VNI outside of it, or have --vni-range widened"
            );
        };
        if !self.0.is_empty() {
            let pool = shown(&self.0);
            return format!(
                "no VNI of {pool} is free on UDP port {port}, and level \"{level}\" opens no other of {range}; delete a network, or have more opened in AttachmentLevel \"{level}\""
            );
        }
        if ranges.is_empty() {
            return format!("level \"{level}\" opens no VNI; have {range} opened in AttachmentLevel \"{level}\"");
        }
        let ranges: Vec<(u32, u32)> = ranges.iter().map(|range| (range.min, range.max)).collect();
        format!("level \"{level}\" opens none of {range}, from which VNIs are drawn; set one of {}", shown(&ranges))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(min: u32, max: u32) -> VniRange {
        VniRange { min, max }
    }

    fn opened(ranges: &[(u32, u32)]) -> Opened {
        Opened { level: "baseline".to_owned(), ranges: ranges.iter().map(|(min, max)| range(*min, *max)).collect() }
    }

    #[test]
    fn the_pool_is_what_range_and_level_have_in_common() {
        let pool = |ranges: &[(u32, u32)]| Pool::of(range(100, 200), Some(&opened(ranges)));
        assert_eq!(Pool::of(range(100, 200), None), Pool(vec![(100, 200)]));
        assert_eq!(pool(&[]), Pool(vec![]));
        assert_eq!(pool(&[(1, 99), (201, 300)]), Pool(vec![]));
        assert_eq!(
            pool(&[(150, 160), (1, 100), (155, 158), (160, 170), (190, 999)]),
            Pool(vec![(100, 100), (150, 170), (190, 200)])
        );
        let pool = pool(&[(150, 151), (100, 100)]);
        assert_eq!((pool.size(), [0, 1, 2, 3].map(|n| pool.nth(n))), (3, [Some(100), Some(150), Some(151), None]));
        assert_eq!(Pool::of(range(1, 0xff_ffff), None).nth(0xff_fffe), Some(0xff_ffff));
    }

    #[test]
    fn every_vni_is_tried_once_beginning_where_the_seed_says() {
        let pool = Pool(vec![(100, 100), (150, 151)]);
        let mut tried = Vec::new();
        assert_eq!(
            pool.probe(7, |vni| {
                tried.push(vni);
                false
            }),
            None
        );
        assert_eq!(tried, [150, 151, 100]);
        assert_eq!(pool.probe(u64::MAX, |vni| vni != 100), Some(150));
        assert_eq!(Pool(vec![]).probe(7, |_| true), None);
    }

    #[test]
    fn a_name_has_one_number_for_ever() {
        let pool = Pool(vec![(100_000, 165_535)]);
        let first = |name: &str| pool.probe(hash(name), |_| true);
        assert_eq!(hash(""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(hash("a"), 0xaf63_dc4c_8601_ec8c);
        assert_ne!(first("shop/blue"), first("shop/red"));
        assert_eq!(first("shop/blue"), first("shop/blue"));
    }
}
