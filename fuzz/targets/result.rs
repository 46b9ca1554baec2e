//! Results of delegates: programs write them, and records keep them.
#![no_main]

use attachments::cni::result::CniResult;
use attachments::cni::version::Version;
use libfuzzer_sys::fuzz_target;
use meta_cni_fuzz as _;

fuzz_target!(|bytes: &[u8]| {
    for asked in [Version::V0_2_0, Version::V0_4_0, Version::NEWEST] {
        let Ok(result) = CniResult::parse(bytes, asked) else { continue };
        for version in Version::ALL {
            let Ok(written) = result.encode(version) else { continue };
            let again = CniResult::from_object(written.clone(), version).expect("what was written");
            let twice = again.encode(version).expect("what was read");
            assert_eq!(twice.to_json(), written.to_json(), "{version} is not read as it was written");
        }
    }
});
