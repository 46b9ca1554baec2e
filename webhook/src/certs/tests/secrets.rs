//! Secrets that are lost, half written, or somebody else's.

use k8s_openapi::ByteString;

use super::*;

fn set(secret: &mut Option<Secret>, key: &str, value: Option<&[u8]>) {
    let data = secret.as_mut().unwrap().data.as_mut().unwrap();
    match value {
        Some(value) => data.insert(key.to_owned(), ByteString(value.to_vec())),
        None => data.remove(key),
    };
}

#[test]
fn what_is_written_is_read_again() {
    let world = World::settled();
    let authorities = world.stored().sound().cloned().unwrap();
    let other = mint::authority(BEGIN, Lifetimes::default().authority).unwrap();
    let both = Authorities::new(other, authorities.bundle(), BEGIN + DAY);
    let both = Authorities { published_since: Some(BEGIN), ..both };
    let mut secret = Secret::default();
    both.write(&mut secret);
    assert_eq!(Authorities::read(Some(&secret)), Stored::Sound(both.clone()));
    let alone = Authorities { old: Vec::new(), published_since: None, old_until: 0, ..both };
    alone.write(&mut secret);
    assert_eq!(Authorities::read(Some(&secret)), Stored::Sound(alone));
    let text = format!("{:?}", world.stored_leaf());
    assert!(!text.contains("PRIVATE"), "{text}");
}

#[test]
fn a_lost_certificate_is_issued_again_by_the_same_authority() {
    let mut world = World::settled();
    world.leaf = None;
    assert_eq!(world.settle(), ["issue"]);
    world.check().unwrap();
    world.serve();
    world.check().unwrap();
}

#[test]
fn a_half_written_certificate_is_issued_again_and_the_served_one_goes_on() {
    let other = mint::authority(BEGIN, Lifetimes::default().authority).unwrap();
    let foreign = mint::leaf(&other, &name().all(), BEGIN, Lifetimes::default().leaf).unwrap();
    let misnamed = |world: &World| {
        let signing = world.stored().sound().unwrap().signing.clone();
        mint::leaf(&signing, &["other".to_owned()], BEGIN, Lifetimes::default().leaf).unwrap()
    };
    let garbage: [(&str, Option<&[u8]>); 7] = [
        ("tls.key", None),
        ("tls.crt", None),
        ("tls.crt", Some(b"")),
        ("tls.crt", Some(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")),
        ("tls.crt", Some(b"-----BEGIN CERTIFICATE-----\nnever ends")),
        ("tls.key", Some(b"\xff\xfe")),
        // A key of another certificate.
        ("tls.key", Some(foreign.key.as_bytes())),
    ];
    for (key, value) in garbage {
        let mut world = World::settled();
        set(&mut world.leaf, key, value);
        assert!(matches!(world.stored_leaf(), Stored::Broken(..)), "{key} {value:?}");
        world.serve();
        world.check().unwrap();
        assert_eq!(world.settle(), ["issue"], "{key} {value:?}");
        world.serve();
        world.check().unwrap();
    }
    for strange in [foreign.clone(), misnamed(&World::settled())] {
        let mut world = World::settled();
        let leaf = Leaf { pair: strange, authorities: Vec::new() };
        leaf.write(world.leaf.as_mut().unwrap());
        assert_eq!(world.settle(), ["issue"]);
    }
}

#[test]
fn a_lost_authority_is_replaced_and_the_earlier_one_stays_trusted() {
    for lost in ["Secret", "tls.key", "tls.crt", "other key"] {
        let mut world = World::settled();
        let first = world.published.clone();
        match lost {
            "Secret" => world.authorities = None,
            "other key" => {
                let other = mint::authority(BEGIN, Lifetimes::default().authority).unwrap();
                set(&mut world.authorities, "tls.key", Some(other.key.as_bytes()));
            }
            key => set(&mut world.authorities, key, None),
        }
        assert_eq!(world.settle(), ["mint", "publish", "note"], "{lost}");
        assert_eq!((world.published.len(), &world.published[1]), (2, &first[0]), "{lost}");
        world.check().unwrap();
        world.now += 2 * MINUTE;
        world.heard = world.published.clone();
        assert_eq!(world.settle(), ["issue"], "{lost}");
        world.serve();
        world.check().unwrap();
    }
}

#[test]
fn when_both_are_lost_the_bundle_still_vouches_for_what_is_served() {
    let mut world = World::settled();
    let first = world.published.clone();
    let stranger = mint::authority(BEGIN, Lifetimes::default().authority).unwrap();
    world.published.push(stranger.certificate());
    (world.authorities, world.leaf) = (None, None);
    assert_eq!(world.settle(), ["mint", "publish", "note", "issue"]);
    assert_eq!((world.published.len(), &world.published[1]), (2, &first[0]), "and the stranger is gone");
    world.heard = world.published.clone();
    world.check().unwrap();
}

#[test]
fn when_both_are_lost_a_leader_that_has_just_started_goes_on_vouching_for_the_other_replicas() {
    let mut world = World::settled();
    let first = world.published.clone();
    (world.authorities, world.leaf) = (None, None);
    world.replicas[0].serving = None;
    assert_eq!(world.settle(), ["mint", "publish", "note", "issue"]);
    assert_eq!((world.published.len(), &world.published[1]), (2, &first[0]));
    world.heard = world.published.clone();
    world.check().unwrap();
}

#[test]
fn a_certificate_that_is_no_authoritys_is_none() {
    let mut world = World::settled();
    let leaf = world.stored_leaf().sound().unwrap().pair.clone();
    set(&mut world.authorities, "tls.crt", Some(x509::to_pem(&leaf.chain).as_bytes()));
    set(&mut world.authorities, "tls.key", Some(leaf.key.as_bytes()));
    let Stored::Broken(why, _) = world.stored() else { panic!("it was taken") };
    assert_eq!(why, "the certificate is no authority's");
}

#[test]
fn authorities_that_are_lost_again_and_again_do_not_grow_the_bundle_without_end() {
    let mut world = World::settled();
    for _ in 0..20 {
        world.authorities = None;
        world.now += 3 * MINUTE;
        world.settle();
        world.now += 3 * MINUTE;
        world.heard = world.published.clone();
        world.settle();
        world.serve();
        world.check().unwrap();
    }
    assert!(world.published.len() <= 8, "{}", world.published.len());
}
