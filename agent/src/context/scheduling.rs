//! Labels and taints that the user gives to his nodes, held against what Kubernetes and its kubelet take: one that is
//! wrong would keep RKE2 from starting.

use super::reader::Reader;

const LABELS: &str = "ONEAPP_K8S_NODE_LABELS";
const TAINTS: &str = "ONEAPP_K8S_NODE_TAINTS";

/// Labels as `key=value`.
pub(super) fn labels(reader: &mut Reader<'_>) -> Vec<String> {
    let key = |label: &String| label.split('=').next().unwrap_or_default().to_owned();
    list(reader, LABELS, label, key)
}

/// Taints as `key=value:Effect` or `key:Effect`.
pub(super) fn taints(reader: &mut Reader<'_>) -> Vec<String> {
    let key = |taint: &String| {
        let (left, effect) = taint.rsplit_once(':').unwrap_or((taint, ""));
        format!("{}:{effect}", left.split('=').next().unwrap_or_default())
    };
    list(reader, TAINTS, taint, key)
}

/// The items of a comma list; each wrong one is a problem, and one that is named twice.
fn list(
    reader: &mut Reader<'_>,
    name: &str,
    parse: fn(&str) -> Result<String, String>,
    key: impl Fn(&String) -> String,
) -> Vec<String> {
    let text = reader.text(name).unwrap_or_default();
    let mut list: Vec<String> = Vec::new();
    for item in text.split(',').map(str::trim).filter(|item| !item.is_empty()) {
        let fault = match parse(item) {
            Ok(parsed) if list.iter().any(|there| key(there) == key(&parsed)) => {
                format!("expected each once: {item:?} comes a second time")
            }
            Ok(parsed) => {
                list.push(parsed);
                continue;
            }
            Err(why) => format!("{why}, not {item:?}"),
        };
        reader.problem(name, text, fault);
    }
    list
}

fn label(item: &str) -> Result<String, String> {
    let (key, value) = item.split_once('=').unwrap_or((item, ""));
    if !is_qualified_name(key) || !is_value(value) {
        return Err("expected a label such as example.org/rack=r1".into());
    }
    if !kubelet_may_set(key) {
        return Err(
            "expected a label outside of kubernetes.io and k8s.io, for a kubelet may not set others there"
                .into(),
        );
    }
    if key == crate::node::files::ROLE_LABEL {
        return Err("expected no label that the agent itself sets".into());
    }
    Ok(format!("{key}={value}"))
}

fn taint(item: &str) -> Result<String, String> {
    let wrong = || "expected a taint such as example.org/gpu=yes:NoSchedule".to_owned();
    let (left, effect) = item.rsplit_once(':').ok_or_else(wrong)?;
    let (key, value) = left.split_once('=').unwrap_or((left, ""));
    let effects = ["NoSchedule", "PreferNoSchedule", "NoExecute"];
    let right = is_qualified_name(key) && is_value(value) && effects.contains(&effect);
    right.then(|| item.to_owned()).ok_or_else(wrong)
}

/// `[prefix/]name`: a DNS subdomain of at most 253 characters, and a name of at most 63 (Kubernetes, "Labels and
/// Selectors").
fn is_qualified_name(key: &str) -> bool {
    let (prefix, name) = key.split_once('/').map_or((None, key), |(prefix, name)| (Some(prefix), name));
    prefix.is_none_or(is_subdomain) && !name.is_empty() && is_value(name)
}

fn is_subdomain(text: &str) -> bool {
    let part = |part: &str| {
        let inner = part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        inner && !part.is_empty() && !part.starts_with('-') && !part.ends_with('-')
    };
    text.len() <= 253 && text.split('.').all(part)
}

/// Empty, or at most 63 letters, digits, `-`, `_` and `.`, a letter or digit at both ends.
fn is_value(text: &str) -> bool {
    let inner = text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'));
    let ends = [text.chars().next(), text.chars().next_back()].into_iter().flatten();
    inner && text.len() <= 63 && ends.into_iter().all(|c| c.is_ascii_alphanumeric())
}

/// A kubelet refuses to start with other labels of Kubernetes' own domains (`--node-labels` in the kubelet's reference).
fn kubelet_may_set(key: &str) -> bool {
    const ALLOWED: [&str; 11] = [
        "beta.kubernetes.io/arch",
        "beta.kubernetes.io/instance-type",
        "beta.kubernetes.io/os",
        "failure-domain.beta.kubernetes.io/region",
        "failure-domain.beta.kubernetes.io/zone",
        "kubernetes.io/arch",
        "kubernetes.io/hostname",
        "kubernetes.io/os",
        "node.kubernetes.io/instance-type",
        "topology.kubernetes.io/region",
        "topology.kubernetes.io/zone",
    ];
    let domain = key.split_once('/').map_or("", |(domain, _)| domain);
    let within = |parent: &str| domain.strip_suffix(parent).is_some_and(|d| d.is_empty() || d.ends_with('.'));
    let reserved = within("kubernetes.io") || within("k8s.io");
    !reserved || within("kubelet.kubernetes.io") || within("node.kubernetes.io") || ALLOWED.contains(&key)
}

#[cfg(test)]
mod tests {
    use super::super::vars::Vars;
    use super::*;

    #[track_caller]
    fn check(name: &str, value: &str, expected: Result<&[&str], &str>) {
        let vars = Vars::from_iter([(name, value)]);
        let mut reader = Reader::new(&vars, None);
        let read = if name == LABELS { labels(&mut reader) } else { taints(&mut reader) };
        match (expected, &reader.finish().0[..]) {
            (Ok(expected), []) => assert_eq!(read, expected, "{value}"),
            (Err(expected), [problem]) => assert_eq!(problem.expected, expected, "{value}"),
            (_, problems) => panic!("{value}: {problems:?}"),
        }
    }

    #[test]
    fn labels_are_what_a_kubelet_may_set() {
        check(LABELS, "rack=r1, example.org/zone=a.b_c-1,", Ok(&["rack=r1", "example.org/zone=a.b_c-1"]));
        check(LABELS, "bare", Ok(&["bare="]));
        check(
            LABELS,
            "topology.kubernetes.io/zone=z1,node.kubernetes.io/x=y",
            Ok(&["topology.kubernetes.io/zone=z1", "node.kubernetes.io/x=y"]),
        );
        let long = "a".repeat(64);
        for wrong in ["a b=c", "=x", "a=-b", "A.example/x=1", "a/b/c=1", "/a=1", &long, "a=b=c"] {
            let expected = format!("expected a label such as example.org/rack=r1, not {wrong:?}");
            check(LABELS, wrong, Err(&expected));
        }
        check(
            LABELS,
            "node-role.kubernetes.io/worker=true",
            Err(
                "expected a label outside of kubernetes.io and k8s.io, for a kubelet may not set others there, not \"node-role.kubernetes.io/worker=true\"",
            ),
        );
        check(LABELS, "a=1,a=2", Err("expected each once: \"a=2\" comes a second time"));
        check(
            LABELS,
            "oneke.opennebula.io/role=mine",
            Err("expected no label that the agent itself sets, not \"oneke.opennebula.io/role=mine\""),
        );
    }

    #[test]
    fn taints_have_an_effect() {
        check(
            TAINTS,
            "gpu:NoSchedule,gpu:NoExecute,x.io/y=z:PreferNoSchedule",
            Ok(&["gpu:NoSchedule", "gpu:NoExecute", "x.io/y=z:PreferNoSchedule"]),
        );
        for wrong in ["gpu", "gpu:", "gpu:noschedule", ":NoSchedule", "g u:NoSchedule", "a=b c:NoExecute"] {
            let expected = format!("expected a taint such as example.org/gpu=yes:NoSchedule, not {wrong:?}");
            check(TAINTS, wrong, Err(&expected));
        }
        check(
            TAINTS,
            "a=1:NoExecute,a=2:NoExecute",
            Err("expected each once: \"a=2:NoExecute\" comes a second time"),
        );
    }
}
