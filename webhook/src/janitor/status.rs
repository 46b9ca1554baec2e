//! What a policy's status becomes: pure.

use attachments::finding::shortened;
use attachments::policy::spec::{AttachmentPolicyStatus, PolicyCondition};
use attachments::text::printable;

use super::census::{Count, Outcome};

/// The rules can be read.
pub const COMPILED: &str = "Compiled";
/// Objects that are stored break the policy.
pub const VIOLATED: &str = "Violated";

/// Longest message of a condition that the schema takes.
const LONGEST: usize = 1024;

/// The status that belongs in place of `current`; nothing where it is as it should be. `now` is a time of RFC 3339.
pub fn next(
    current: Option<&AttachmentPolicyStatus>,
    generation: Option<i64>,
    outcome: &Outcome,
    now: &str,
) -> Option<AttachmentPolicyStatus> {
    let (compiled, violated) = match outcome {
        Ok(count) => (condition(COMPILED, "True", "Compiled", "every rule can be read"), of_count(count)),
        Err(flaws) => {
            let flaws: Vec<String> = flaws.iter().map(ToString::to_string).collect();
            let violated = condition(VIOLATED, "Unknown", "NotCompiled", "nobody knows what the policy forbids");
            (condition(COMPILED, "False", "Flawed", &flaws.join("; ")), violated)
        }
    };
    let nothing = AttachmentPolicyStatus::default();
    let was = current.unwrap_or(&nothing);
    let since = |condition: PolicyCondition| {
        let before = was.conditions.iter().find(|before| before.kind == condition.kind);
        let kept = before.filter(|before| before.status == condition.status);
        let kept = kept.and_then(|before| before.last_transition_time.clone());
        PolicyCondition { last_transition_time: Some(kept.unwrap_or_else(|| now.to_owned())), ..condition }
    };
    let status = AttachmentPolicyStatus {
        observed_generation: generation,
        conditions: vec![since(compiled), since(violated)],
        violations: outcome.as_ref().ok().map(|count| count.objects),
    };
    (status != *was).then_some(status)
}

fn of_count(count: &Count) -> PolicyCondition {
    let Some((object, text)) = &count.first else {
        return condition(VIOLATED, "False", "NoViolations", "no stored object breaks the policy");
    };
    let objects = if count.objects == 1 { "1 object".to_owned() } else { format!("{} objects", count.objects) };
    condition(VIOLATED, "True", "Violations", &format!("{objects}, first {object}: {text}"))
}

fn condition(kind: &str, status: &str, reason: &str, message: &str) -> PolicyCondition {
    PolicyCondition {
        kind: kind.to_owned(),
        status: status.to_owned(),
        reason: reason.to_owned(),
        message: shortened(&printable(message), LONGEST),
        last_transition_time: None,
    }
}

#[cfg(test)]
mod tests {
    use attachments::policy::Flaw;

    use super::super::census::Object;
    use super::*;

    const MORNING: &str = "2026-11-29T08:00:00Z";
    const NOON: &str = "2026-11-29T12:00:00Z";

    fn counted(objects: i64) -> Outcome {
        let first =
            (objects > 0).then(|| (Object::Definition("shop/blue".to_owned()), "spec.config.vni: x".to_owned()));
        Ok(Count { objects, first })
    }

    fn flawed(text: &str) -> Outcome {
        let (path, value) = ("spec.rules[0].select".to_owned(), "\"$..\"".to_owned());
        Err(vec![Flaw { rule: None, path, value, text: text.to_owned() }])
    }

    /// Status, reason and message of each condition, and since when.
    fn said(status: &AttachmentPolicyStatus) -> Vec<String> {
        let line = |c: &PolicyCondition| {
            let since = c.last_transition_time.as_deref().unwrap_or_default();
            format!("{} {} {} since {since}: {}", c.kind, c.status, c.reason, c.message)
        };
        status.conditions.iter().map(line).collect()
    }

    #[test]
    fn a_count_is_written_once_and_a_time_is_that_of_a_change() {
        let first = next(None, Some(1), &counted(0), MORNING).unwrap();
        assert_eq!((first.observed_generation, first.violations), (Some(1), Some(0)));
        assert_eq!(
            said(&first),
            [
                format!("Compiled True Compiled since {MORNING}: every rule can be read"),
                format!("Violated False NoViolations since {MORNING}: no stored object breaks the policy"),
            ]
        );
        assert_eq!(next(Some(&first), Some(1), &counted(0), NOON), None);
        let broken = next(Some(&first), Some(1), &counted(2), NOON).unwrap();
        assert_eq!(broken.violations, Some(2));
        assert_eq!(
            said(&broken),
            [
                format!("Compiled True Compiled since {MORNING}: every rule can be read"),
                format!(
                    "Violated True Violations since {NOON}: 2 objects, first network-attachment-definition shop/blue: spec.config.vni: x"
                ),
            ]
        );
        let fewer = next(Some(&broken), Some(2), &counted(1), MORNING).unwrap();
        assert_eq!((fewer.observed_generation, fewer.violations), (Some(2), Some(1)));
        assert!(said(&fewer)[1].starts_with(&format!("Violated True Violations since {NOON}: 1 object, first ")));
    }

    #[test]
    fn a_policy_that_cannot_be_read_counts_nothing() {
        let before = next(None, Some(1), &counted(3), MORNING).unwrap();
        let flawed_one = next(Some(&before), Some(2), &flawed("no path"), NOON).unwrap();
        assert_eq!(flawed_one.violations, None);
        assert_eq!(
            said(&flawed_one),
            [
                format!("Compiled False Flawed since {NOON}: spec.rules[0].select: Invalid value: \"$..\": no path"),
                format!("Violated Unknown NotCompiled since {NOON}: nobody knows what the policy forbids"),
            ]
        );
        assert_eq!(next(Some(&flawed_one), Some(2), &flawed("no path"), MORNING), None);
        let long = next(None, None, &flawed(&"\u{7}ä".repeat(4000)), NOON).unwrap();
        assert_eq!(long.conditions[0].message.chars().count(), LONGEST);
        assert!(!long.conditions[0].message.contains('\u{7}'));
    }
}
