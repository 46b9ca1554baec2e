//! Flags of what is changed.

use attachments::policy::spec::VniRange;
use clap::Args;

/// What is changed in objects.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Changes of objects")]
pub struct MutateOptions {
    /// The VNIs from which one is drawn for a definition of type vxlan that names none.
    #[arg(long, env = "META_CNI_VNI_RANGE", value_name = "MIN-MAX", default_value = "100000-165535", value_parser = vni_range)]
    pub vni_range: VniRange,
    /// Adds to a pod what its networks need: resources and a node selector, by the annotations that network-resources-injector
    /// reads. Has no effect while another injector is registered.
    #[arg(long, env = "META_CNI_INJECT")]
    pub inject: bool,
    /// Keeps a pod from nodes that lack a link, a driver or a program of its networks, by the labels that agents with --node-labels write.
    #[arg(long, env = "META_CNI_NODE_LABELS")]
    pub node_labels: bool,
}

impl Default for MutateOptions {
    fn default() -> Self {
        Self { vni_range: VniRange { min: 100_000, max: 165_535 }, inject: false, node_labels: false }
    }
}

fn vni_range(text: &str) -> Result<VniRange, String> {
    let read = || {
        let (min, max) = text.split_once('-')?;
        let (min, max) = (min.trim().parse().ok()?, max.trim().parse().ok()?);
        (1 <= min && min <= max && max <= 0xff_ffff).then_some(VniRange { min, max })
    };
    read().ok_or_else(|| {
        format!("got {text:?}, want MIN-MAX, two integers from 1 to 16777215, the first not above the second")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_two_vnis_in_order() {
        for (text, min, max) in [("100000-165535", 100_000, 165_535), ("7-7", 7, 7), ("1 - 16777215", 1, 0xff_ffff)] {
            assert_eq!(vni_range(text), Ok(VniRange { min, max }));
        }
        for text in ["", "7", "7-", "-7", "0-7", "8-7", "1-16777216", "a-b", "1-2-3"] {
            assert!(vni_range(text).unwrap_err().starts_with(&format!("got {text:?}, want MIN-MAX")), "{text}");
        }
        assert_eq!(vni_range("100000-165535"), Ok(MutateOptions::default().vni_range));
    }
}
