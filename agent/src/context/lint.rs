//! What is odd in a context although nobody reads it wrongly: unknown names, names given twice, booleans that are none,
//! functions that this agent does not serve. And what nobody can read: values of ours that are no text.

use super::reader::{Reader, is_yes};
use super::table::{self, Form, Served};

/// Suggestions cost a comparison with every name; a context with more unknown names than this gets no more of them.
const SUGGESTIONS: usize = 50;
/// Names further apart than this are not taken for each other: a letter lost, doubled or swapped, twice.
const NEAR: usize = 3;

/// Warns of all of it.
pub(super) fn read(reader: &mut Reader<'_>) {
    for name in reader.vars().repeated() {
        reader.warn(name, "is given several times with different values: the last one counts, as in a shell");
    }
    let mut suggestions = 0;
    for (name, value) in reader.vars().iter().filter(|(_, value)| !value.is_empty()) {
        let mut known = table::entries(name).peekable();
        if known.peek().is_none() {
            if name.starts_with("ONEAPP_") || name.starts_with("ONE_SERVICE_") {
                suggestions += 1;
                let near = if suggestions <= SUGGESTIONS { nearest(name) } else { None };
                let hint = near.map_or(String::new(), |near| format!("; did you mean {near}?"));
                reader.warn(name, format!("is not known to this agent and changes nothing{hint}"));
            }
            continue;
        }
        // What stood there was no UTF-8 (see world/context_source.rs). Elsewhere, in a script say, that is nobody's harm.
        let is_ours = table::entries(name).any(|variable| variable.served == Served::Agent);
        if known.all(|variable| variable.form == Form::Bool) {
            boolean(reader, name, value);
        } else if is_ours && value.contains(char::REPLACEMENT_CHARACTER) && !reader.has_problem(name) {
            reader.problem(name, value, "expected text in UTF-8, not other bytes");
        }
    }
}

fn boolean(reader: &mut Reader<'_>, name: &str, value: &str) {
    let plainly_no = ["NO", "FALSE", "OFF", "N", "0"].iter().any(|no| value.eq_ignore_ascii_case(no));
    if !is_yes(value) && !plainly_no {
        reader.warn(name, format!("{value:?} counts as NO, as in the old appliance: write YES or NO"));
    }
    let unserved = table::entries(name).find_map(|variable| match variable.served {
        Served::No(why) => Some(why),
        Served::Agent | Served::Guest | Served::Build => None,
    });
    if let Some(why) = unserved.filter(|_| is_yes(value)) {
        reader.warn(name, format!("is not served by this agent: {why}"));
    }
}

/// The known name that `name` was probably meant to be, with its numbers.
fn nearest(name: &str) -> Option<String> {
    let candidates = table::all().filter(|variable| !variable.name.ends_with('*')).filter_map(|variable| {
        let known = filled(variable.name, name);
        let far = name.len().abs_diff(known.len()) > NEAR;
        let distance = if far { NEAR + 1 } else { strsim::damerau_levenshtein(name, &known) };
        (distance <= NEAR).then_some((distance, known))
    });
    candidates.min_by_key(|(distance, _)| *distance).map(|(_, known)| known)
}

/// The pattern with its letters replaced by the numbers that `name` has at their places, if it has as many.
fn filled(pattern: &str, name: &str) -> String {
    let numbers: Vec<&str> = name.split(|c: char| !c.is_ascii_digit()).filter(|n| !n.is_empty()).collect();
    let places = pattern.split(|c: char| !c.is_ascii_digit() && !c.is_ascii_lowercase());
    if places.filter(|place| !place.is_empty()).count() != numbers.len() {
        return pattern.to_owned();
    }
    let mut numbers = numbers.into_iter();
    let mut filled = String::new();
    let mut in_digits = false;
    for c in pattern.chars() {
        if c.is_ascii_lowercase() {
            filled.push_str(numbers.next().unwrap_or_default());
        } else {
            if c.is_ascii_digit() && !in_digits {
                numbers.next();
            }
            filled.push(c);
        }
        in_digits = c.is_ascii_digit();
    }
    filled
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_names_are_suggested_with_their_numbers() {
        let check =
            |name: &str, expected: Option<&str>| assert_eq!(nearest(name).as_deref(), expected, "{name}");
        check("ONEAPP_K8S_METALB_ENABLED", Some("ONEAPP_K8S_METALLB_ENABLED"));
        check("ONEAPP_VROUTER_ETH1_VPI0", Some("ONEAPP_VROUTER_ETH1_VIP0"));
        check("ONEAPP_VNF_HAPROXY_LB2_SERVR13_HOST", Some("ONEAPP_VNF_HAPROXY_LB2_SERVER13_HOST"));
        check("ONEAPP_VNF_KEEPALIVED_ETH_SKIP", Some("ONEAPP_VNF_KEEPALIVED_ETHx_SKIP"));
        check("ONEAPP_SOMETHING_ELSE", None);
    }
}
