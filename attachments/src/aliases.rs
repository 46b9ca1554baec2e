//! Plugin types under other names: distributions ship copies of the reference plugins under names of their own, and definitions that name
//! those mean the same.

/// Each name, and the type that it stands for. The copies of KubeVirt's network operator have the keys of the originals, and
/// `route-overwrite` is the first name of `route-override`.
pub const ALIASES: [(&str, &str); 3] =
    [("cnv-bridge", "bridge"), ("cnv-tuning", "tuning"), ("route-overwrite", "route-override")];

/// The type that a name stands for; every other name stands for itself.
///
/// ```
/// use attachments::aliases::stands_for;
///
/// assert_eq!((stands_for("cnv-bridge"), stands_for("sriov")), ("bridge", "sriov"));
/// ```
pub fn stands_for(kind: &str) -> &str {
    ALIASES.iter().find(|(alias, _)| *alias == kind).map_or(kind, |(_, stood_for)| stood_for)
}
