//! Spellings and names.

use serde_json::json;

use crate::stage::Stage;

#[test]
fn two_spellings_of_one_key() {
    let stage = Stage::new();
    for config in [
        r#"{"cniVersion":"1.0.0","name":"mine","NAME":"cluster","type":"macvlan","master":"eth2"}"#,
        r#"{"cniVersion":"1.0.0","type":"macvlan","master":"eth2","Master":"eth0"}"#,
        r#"{"cniVersion":"1.0.0","type":"one","TYPE":"meta-cni"}"#,
    ] {
        stage.node.nad_text("default", "trap", config);
        stage.refuses_pod(&stage.node.pod("tenant", "trap"), 7, &["default/trap"]);
    }
    stage.trap(&json!({"cniVersion": "1.0.0", "type": "macvlan", "master": "eth2"}));
    let pod = stage.node.pod("tenant", r#"[{"name":"trap","Name":"other"}]"#);
    stage.refuses_pod(&pod, 7, &["name"]);
}

#[test]
fn names_that_the_kernel_takes_for_templates() {
    let stage = Stage::new();
    for name in ["br%d", "-f", "b\u{1b}[2J", "brü"] {
        stage.refuses(&json!({"cniVersion": "1.0.0", "type": "bridge", "bridge": name}), 7, &["bridge"]);
    }
}

#[test]
fn escape_sequences_in_what_is_quoted() {
    let stage = Stage::new();
    stage.refuses(
        &json!({"cniVersion": "1.0.0", "type": "macvlan", "master": "eth2", "mode": "\u{1b}[31m\u{9b}\r\nok"}),
        7,
        &["mode"],
    );
    let pod = stage.node.pod("tenant", "a\u{1b}[2Jb");
    stage.refuses_pod(&pod, 7, &["networks"]);
}
