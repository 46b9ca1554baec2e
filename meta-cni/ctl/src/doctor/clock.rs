//! The API server, and the node's clock beside its.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::finding::{Finding, Severity};
use crate::access::{Api, block_on};

/// More than this is told: tokens and certificates have dates.
const ASKEW: u64 = 30;

/// Asks the API server for its time.
pub fn examine(api: &Api, findings: &mut Vec<Finding>) {
    if !api.is_named() && !api.is_usual() {
        let advice = "name a kubeconfig (--kubeconfig), or run doctor in the agent's container";
        findings.push(Finding::new(
            "D44",
            Severity::Info,
            "the API server was not asked: no kubeconfig, and no service account",
            advice,
        ));
        return;
    }
    let asked = block_on(async {
        let access = api.open().await?;
        tokio::time::timeout(Duration::from_secs(10), meta_cni_kube::server_date(&access))
            .await
            .map_err(|_| "no answer in time".to_owned())?
    });
    match asked {
        Ok(date) => judge(&date, SystemTime::now(), findings),
        Err(why) => {
            let advice =
                "see the network to it, its certificate and the kubeconfig: what the agent knows already goes on";
            findings.push(Finding::new(
                "D43",
                Severity::Error,
                format!("the API server does not answer: {why}"),
                advice,
            ));
        }
    }
}

fn judge(date: &str, now: SystemTime, findings: &mut Vec<Finding>) {
    let (Some(theirs), Ok(ours)) = (seconds(date), now.duration_since(UNIX_EPOCH)) else { return };
    let apart = ours.as_secs().abs_diff(theirs);
    if apart > ASKEW {
        let found = format!("the clock of this node is {apart} s away from the API server's");
        findings.push(Finding::new(
            "D44",
            Severity::Warning,
            found,
            "set up time synchronisation: certificates and tokens are refused by their dates",
        ));
    }
}

/// Seconds since 1970 of a date as HTTP writes it: `Sun, 06 Nov 1994 08:49:37 GMT`.
fn seconds(date: &str) -> Option<u64> {
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let mut words = date.split_once(", ")?.1.split(' ');
    let day: u64 = words.next()?.parse().ok()?;
    let month = words.next()?;
    let month = MONTHS.iter().position(|known| *known == month)? as u64 + 1;
    let year: u64 = words.next()?.parse().ok()?;
    let time: Vec<u64> = words.next()?.split(':').filter_map(|part| part.parse().ok()).collect();
    let [hours, minutes, seconds] = time[..] else { return None };
    // Days from the first of March of year 0, as leap days are at the end of such years.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year.checked_sub(1)?, month + 9) };
    let days = (365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day).checked_sub(719_469)?;
    Some(((days * 24 + hours) * 60 + minutes) * 60 + seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_of_http_are_read() {
        for (date, want) in [
            ("Thu, 01 Jan 1970 00:00:00 GMT", Some(0)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(784_111_777)),
            ("Thu, 29 Feb 2024 23:59:59 GMT", Some(1_709_251_199)),
            ("yesterday", None),
            ("Thu, 29 Foo 2024 23:59:59 GMT", None),
        ] {
            assert_eq!(seconds(date), want, "{date}");
        }
    }

    #[test]
    fn a_clock_that_is_askew_is_told() {
        let at = |seconds: u64| {
            let mut findings = Vec::new();
            judge("Sun, 06 Nov 1994 08:49:37 GMT", UNIX_EPOCH + Duration::from_secs(seconds), &mut findings);
            findings.len()
        };
        assert_eq!((at(784_111_777), at(784_111_800), at(784_111_900), at(784_111_000)), (0, 0, 1, 1));
    }
}
