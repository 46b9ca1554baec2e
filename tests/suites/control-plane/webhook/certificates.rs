//! Certificates and registration, looked after by several replicas with the rights that are shipped.

use serde_json::json;

use super::world::{AUTHORITIES, CONFIGURATION, LEAF, MUTATING, NADS, World, nad};

#[test]
fn two_replicas_make_one_authority_and_both_serve_its_certificate() {
    let world = World::served(2);
    let bundles = world.bundles();
    assert!(bundles.len() >= 8 && bundles.iter().all(|bundle| *bundle == bundles[0]), "{bundles:?}");
    let served = || {
        let map = world.plane.api().get("/api/v1/namespaces/meta-cni/configmaps/meta-cni-webhook-replicas");
        let data = map.map_err(|refusal| refusal.to_string())?["data"].clone();
        let serial = |name: &str| data[name].as_str().and_then(|text| text.split(' ').next()).map(str::to_owned);
        match (serial("replica-0"), serial("replica-1")) {
            (Some(one), Some(other)) if one == other => Ok(()),
            _ => Err(data.to_string()),
        }
    };
    world.until("reports of both", served);
    world.must_answer();
    // Nothing but caBundle is ours.
    for configuration in [CONFIGURATION, MUTATING] {
        let configuration = world.plane.api().get(configuration).unwrap();
        let managed = configuration["metadata"]["managedFields"].as_array().unwrap();
        let ours: Vec<_> = managed.iter().filter(|entry| entry["manager"] == "meta-cni-webhook").collect();
        assert_eq!(ours.len(), 1, "{managed:?}");
        let fields = ours[0]["fieldsV1"].to_string();
        let keys = fields.matches("\"f:").count() - fields.matches("\"f:name\"").count();
        let bundles = fields.matches("\"f:caBundle\"").count();
        // webhooks, and clientConfig with its caBundle for each.
        assert_eq!(keys, 1 + 2 * bundles, "{fields}");
    }
}

#[test]
fn a_bundle_that_is_overwritten_is_put_right() {
    let world = World::served(1);
    let right = world.bundles();
    let api = world.plane.api();
    let stranger = world.plane.certificate();
    let encoded = {
        use base64::Engine;
        base64::engine::general_purpose::STANDARD.encode(stranger)
    };
    for (path, wrong) in [(CONFIGURATION, encoded.as_str()), (MUTATING, &encoded), (CONFIGURATION, ""), (MUTATING, "")]
    {
        let mut configuration = api.get(path).unwrap();
        for webhook in configuration["webhooks"].as_array_mut().unwrap() {
            webhook["clientConfig"]["caBundle"] = json!(wrong);
        }
        configuration["metadata"]["managedFields"] = json!([{}]);
        api.put(path, &configuration).unwrap();
        world.until("bundle that is right", || if world.bundles() == right { Ok(()) } else { Err("wrong".to_owned()) });
    }
    // Applied again as it is shipped, which happens with every upgrade: the bundle stays.
    world.plane.kubectl(["apply", "-k", &super::world::shipped("kustomize/webhook")]);
    assert_eq!(world.bundles(), right);
    world.until_in_force();
    world.must_answer();
}

/// Whoever wants no changes deletes their registration: the rest goes on, and nobody makes it again.
#[test]
fn the_registration_of_changes_can_go() {
    let world = World::served(1);
    let api = world.plane.api();
    api.delete(MUTATING).unwrap();
    let bundle = api.get(CONFIGURATION).unwrap()["webhooks"][0]["clientConfig"]["caBundle"].clone();
    api.delete(AUTHORITIES).unwrap();
    world.until("bundle of a new authority", || {
        let now = api.get(CONFIGURATION).unwrap()["webhooks"][0]["clientConfig"]["caBundle"].clone();
        if now == bundle { Err("the old one".to_owned()) } else { Ok(()) }
    });
    world.until_ready(0);
    world.must_answer();
    assert_eq!(api.get(MUTATING).unwrap_err().code, 404);
    // An overlay without a VNI is refused then.
    let refusal = api.post(NADS, &nad("blue", r#"{"cniVersion":"1.0.0","type":"vxlan"}"#)).unwrap_err();
    assert!(refusal.code == 422 && refusal.message.contains("spec.config.vni: Required value"), "{refusal}");
}

#[test]
fn secrets_that_are_deleted_come_back_while_requests_go_on() {
    let world = World::served(2);
    let api = world.plane.api();
    let serial = || world.plane.api().get(LEAF).map(|secret| secret["data"]["tls.crt"].clone());
    let before = serial().unwrap();
    api.delete(LEAF).unwrap();
    world.until("a new certificate", || match serial() {
        Ok(new) if new != before => Ok(()),
        other => Err(format!("{other:?}")),
    });
    world.must_answer();
    let bundle = world.bundles();
    api.delete(AUTHORITIES).unwrap();
    world.until("a bundle with a new authority and the old one", || match world.bundles() {
        now if now[0] != bundle[0] && now[0].len() > bundle[0].len() => Ok(()),
        now => Err(format!("{now:?}")),
    });
    world.must_answer();
    api.patch(LEAF, &json!({"data": {"tls.key": ""}})).unwrap();
    world.until("a certificate that is whole", || {
        let secret = api.get(LEAF).map_err(|refusal| refusal.to_string())?;
        if secret["data"]["tls.key"].as_str().is_some_and(|key| key.len() > 100) {
            Ok(())
        } else {
            Err("half".to_owned())
        }
    });
    world.until_in_force();
    world.must_answer();
    for number in [0, 1] {
        world.until_ready(number);
    }
}

#[test]
fn a_leader_that_is_killed_is_followed_by_another() {
    let mut world = World::served(2);
    let lease = "/apis/coordination.k8s.io/v1/namespaces/meta-cni/leases/meta-cni-webhook";
    let holder = |world: &World| {
        let lease = world.plane.api().get(lease).map_err(|refusal| refusal.to_string())?;
        match lease["spec"]["holderIdentity"].as_str() {
            Some("replica-0") => Ok(0),
            Some("replica-1") => Ok(1),
            other => Err(format!("{other:?}")),
        }
    };
    let first = holder(&world).unwrap();
    world.kill(first);
    world.must_answer();
    let other = 1 - first;
    world.plane.api().delete(LEAF).unwrap();
    world.until("certificate of the other", || {
        world.plane.api().get(LEAF).map(drop).map_err(|refusal| refusal.to_string())
    });
    assert_eq!(holder(&world), Ok(other));
    world.must_answer();
    // One that is told to stop gives the Lease away at once, and nobody is refused meanwhile.
    world.start(first);
    world.until_ready(first);
    world.stop(other);
    world.must_answer();
    world.until("the Lease of the first", || {
        holder(&world).and_then(|now| if now == first { Ok(()) } else { Err(now.to_string()) })
    });
}

#[test]
fn a_certificate_of_others_is_served_and_nothing_is_written() {
    let mut world = World::new();
    let dir = world.plane.place().path("foreign");
    std::fs::create_dir(&dir).unwrap();
    let path = |name: &str| dir.join(name).display().to_string();
    let (key, certificate) = (path("key"), path("crt"));
    meta_cni_tests::program::run(
        "openssl",
        [
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-days",
            "30",
            "-subj",
            "/CN=foreign",
            "-addext",
            "subjectAltName=DNS:meta-cni-webhook.meta-cni.svc",
            "-addext",
            "basicConstraints=critical,CA:FALSE",
            "-keyout",
            &key,
            "-out",
            &certificate,
        ],
    );
    // The name that the shipped rights have: cert-manager's Secret would be named in an overlay, as would the rights.
    let secret = format!("--from-file=tls.crt={certificate}");
    let key = format!("--from-file=tls.key={key}");
    let make = ["-n", "meta-cni", "create", "secret", "generic", "meta-cni-webhook-tls", "--type=kubernetes.io/tls"];
    world.plane.kubectl(make.into_iter().chain([secret.as_str(), key.as_str()]));
    world.start_with(0, &["--tls-secret", "meta-cni-webhook-tls"]);
    let waits = world.until("replica that waits for a bundle", || match world.probe(0, "/readyz")? {
        (status, body) if status.contains(" 503 ") && body.contains("caBundle") => Ok(body),
        (status, body) => Err(format!("{status} {body}")),
    });
    assert!(waits.contains("a published caBundle that verifies our certificate"), "{waits}");
    let api = world.plane.api();
    assert_eq!(api.get(AUTHORITIES).unwrap_err().code, 404);
    assert!(world.bundles().iter().all(String::is_empty));
    // What cert-manager's injector does.
    let encoded = {
        use base64::Engine;
        base64::engine::general_purpose::STANDARD.encode(std::fs::read(&certificate).unwrap())
    };
    for path in [CONFIGURATION, MUTATING] {
        let mut configuration = api.get(path).unwrap();
        for webhook in configuration["webhooks"].as_array_mut().unwrap() {
            webhook["clientConfig"]["caBundle"] = json!(encoded);
        }
        api.put(path, &configuration).unwrap();
    }
    world.until_ready(0);
    world.until_in_force();
    world.must_answer();
}
