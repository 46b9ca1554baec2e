//! A map as one page: a picture that can be searched and zoomed. It needs nothing but itself.
//!
//! A network is a line, a pod a column, an interface the point where they meet. So a picture of a thousand pods is as plain as one
//! of three: nothing crosses anything.

use std::fmt::Write;

use super::model::Map;

const PAGE: &str = include_str!("page.html");

/// Room for the names of networks on the left, and for those of pods above.
const LEFT: usize = 360;
const TOP: usize = 230;
const COLUMN: usize = 26;
const LINE: usize = 34;
/// Between two nodes.
const GAP: usize = 22;

/// The page.
pub fn html(map: &Map) -> String {
    let networks: Vec<&str> = map.names().into_iter().collect();
    let mut columns: Vec<(&str, &str)> =
        map.pods.iter().map(|(name, pod)| (pod.node.as_str(), name.as_str())).collect();
    columns.sort_unstable();
    let mut picture = Picture { map, svg: String::new(), x: LEFT };
    let mut places = Vec::new();
    let mut node = None;
    for (of, pod) in columns {
        if node != Some(of) {
            if node.is_some() {
                picture.x += GAP;
            }
            node = Some(of);
            picture.node(of, networks.len());
        }
        picture.pod(pod);
        places.push((pod, picture.x));
        picture.x += COLUMN;
    }
    let (width, height) = (picture.x + GAP, TOP + LINE * networks.len().max(1) + 20);
    for (line, network) in networks.iter().enumerate() {
        picture.network(network, line, &places, width);
    }
    let summary = format!("{} networks, {} pods", networks.len(), map.pods.len());
    PAGE.replace("@WIDTH@", &width.to_string())
        .replace("@HEIGHT@", &height.to_string())
        .replace("@SUMMARY@", &summary)
        .replace("@PICTURE@", &picture.svg)
}

struct Picture<'a> {
    map: &'a Map,
    svg: String,
    x: usize,
}

impl Picture<'_> {
    /// The box of a node, as wide as its pods.
    fn node(&mut self, name: &str, lines: usize) {
        let pods = self.map.pods.values().filter(|pod| pod.node == name).count();
        let (x, width, height) = (self.x - COLUMN / 2, pods * COLUMN, TOP - 14 + LINE * lines);
        let shown = escaped(if name.is_empty() { "no node" } else { name });
        let _ = writeln!(
            self.svg,
            "<g class=\"node\" data-text=\"{shown}\"><rect x=\"{x}\" y=\"24\" width=\"{width}\" height=\"{height}\" rx=\"8\"/><text x=\"{}\" y=\"18\">{shown}</text></g>",
            x + 4
        );
    }

    fn pod(&mut self, name: &str) {
        let (shown, x) = (escaped(name), self.x);
        let _ = writeln!(
            self.svg,
            "<g class=\"pod\" data-text=\"{shown}\"><text transform=\"translate({} {}) rotate(-90)\">{shown}</text></g>",
            x + 4,
            TOP - 16
        );
    }

    fn network(&mut self, name: &str, line: usize, places: &[(&str, usize)], width: usize) {
        let y = TOP + line * LINE + LINE / 2;
        // Neighbours differ most when each turns the colour by the golden angle.
        let colour = format!("hsl({} 65% 45%)", line * 137 % 360);
        let (shown, title) = (escaped(name), escaped(&self.map.title(name)));
        let _ = writeln!(
            self.svg,
            "<g class=\"network\" data-text=\"{shown} {title}\"><line x1=\"{}\" y1=\"{y}\" x2=\"{}\" y2=\"{y}\" stroke=\"{colour}\"/><text x=\"10\" y=\"{}\" class=\"name\">{shown}</text><text x=\"10\" y=\"{}\" class=\"title\">{title}</text>",
            LEFT - COLUMN / 2,
            width - GAP,
            y - 1,
            y + 11
        );
        for (pod, x) in places {
            let attachments = self.map.pods.get(*pod).into_iter().flat_map(|pod| &pod.attachments);
            let own: Vec<_> = attachments.filter(|one| one.network == name).collect();
            if own.is_empty() {
                continue;
            }
            let by = |claim: &super::model::Claim| format!(" by {}", claim.holder);
            let says = own.iter().map(|one| {
                let by = self.map.claim_of(one).map(by).unwrap_or_default();
                format!("{} {} {}{by}", one.interface, one.ips.join(" "), one.mac)
            });
            let says: Vec<String> = says.collect();
            let text = escaped(&format!("{pod} {}", says.join("; ")));
            let _ = writeln!(
                self.svg,
                "<circle cx=\"{x}\" cy=\"{y}\" r=\"7\" fill=\"{colour}\" data-text=\"{text} {shown}\"><title>{text} in {shown}</title></circle>"
            );
        }
        self.svg.push_str("</g>\n");
    }
}

/// Text for HTML and for an attribute. Names and addresses are anybody's.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            // The page's own places.
            '@' => out.push_str("&#64;"),
            c if c.is_control() => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::model::tests::example;
    use super::*;

    #[test]
    fn every_attachment_is_a_point_and_nothing_of_a_name_is_markup() {
        let page = html(&example());
        assert_eq!(page.matches("<circle ").count(), 4);
        assert_eq!(page.matches("<g class=\"network\"").count(), 3);
        assert_eq!((page.matches("<g class=\"node\"").count(), page.matches("<g class=\"pod\"").count()), (2, 3));
        assert!(page.contains("shop/&lt;c&gt;") && !page.contains("<c>") && !page.contains("@PICTURE@"), "{page}");
        for word in ["http:", "https:", "src=", "@import"] {
            assert!(!page.replace("http://www.w3.org/2000/svg", "").contains(word), "{word}");
        }
    }

    #[test]
    fn nothing_is_a_picture_too() {
        assert!(html(&Map::default()).contains("0 networks, 0 pods"));
    }
}
