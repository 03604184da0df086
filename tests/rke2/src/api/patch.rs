//! The patches that Kubernetes knows: merge (RFC 7396), strategic merge, JSON patch (RFC 6902) and apply.

use serde_json::{Map, Value};

use super::status::Refusal;

/// Lists that a strategic merge joins, and the key that tells their items apart (k8s.io/api, patchMergeKey). An empty
/// key joins plain values. Every other list is replaced.
const MERGED_LISTS: &[(&str, &str)] = &[
    ("addresses", "type"),
    ("conditions", "type"),
    ("containers", "name"),
    ("env", "name"),
    ("finalizers", ""),
    ("imagePullSecrets", "name"),
    ("ownerReferences", "uid"),
    ("podCIDRs", ""),
    ("volumes", "name"),
];

/// The object after the patch, whose kind the content type tells.
///
/// # Errors
/// An unknown content type, or a patch that does not fit.
pub fn apply(object: &Value, content_type: &str, patch: &[u8]) -> Result<Value, Refusal> {
    let kind = content_type.split(';').next().unwrap_or_default().trim();
    let parsed = parse(kind, patch)?;
    match kind {
        "application/merge-patch+json" => Ok(merged(object, &parsed)),
        "application/strategic-merge-patch+json" | "application/apply-patch+yaml" => {
            Ok(strategic(object, &parsed))
        }
        "application/json-patch+json" => operations(object, &parsed),
        other => Err(Refusal::bad(format!("unsupported patch type {other:?}"))),
    }
}

fn parse(kind: &str, patch: &[u8]) -> Result<Value, Refusal> {
    let text = std::str::from_utf8(patch).map_err(|error| Refusal::bad(error.to_string()))?;
    if kind == "application/apply-patch+yaml" {
        return serde_saphyr::from_str(text).map_err(|error| Refusal::bad(error.to_string()));
    }
    serde_json::from_str(text).map_err(|error| Refusal::bad(error.to_string()))
}

fn merged(object: &Value, patch: &Value) -> Value {
    let Value::Object(changes) = patch else { return patch.clone() };
    let mut result = object.as_object().cloned().unwrap_or_default();
    for (key, change) in changes {
        if change.is_null() {
            result.remove(key);
        } else {
            let before = result.get(key).cloned().unwrap_or(Value::Null);
            result.insert(key.clone(), merged(&before, change));
        }
    }
    Value::Object(result)
}

fn strategic(object: &Value, patch: &Value) -> Value {
    let Value::Object(changes) = patch else { return patch.clone() };
    if changes.get("$patch").and_then(Value::as_str) == Some("replace") {
        return Value::Object(without_directives(changes));
    }
    let mut result = object.as_object().cloned().unwrap_or_default();
    for (key, change) in changes.iter().filter(|(key, _)| !key.starts_with('$')) {
        let before = result.get(key).cloned().unwrap_or(Value::Null);
        let merge_key = MERGED_LISTS.iter().find(|(list, _)| list == key).map(|(_, merge_key)| *merge_key);
        match (change, merge_key) {
            (Value::Null, _) => drop(result.remove(key)),
            (Value::Array(items), Some("")) => drop(result.insert(key.clone(), joined(&before, items))),
            (Value::Array(items), Some(by)) => {
                drop(result.insert(key.clone(), joined_by(&before, items, by)))
            }
            _ => drop(result.insert(key.clone(), strategic(&before, change))),
        }
    }
    for (key, gone) in changes {
        if let (Some(list), Some(gone)) = (key.strip_prefix("$deleteFromPrimitiveList/"), gone.as_array())
            && let Some(Value::Array(items)) = result.get_mut(list)
        {
            items.retain(|item| !gone.contains(item));
        }
    }
    Value::Object(result)
}

fn joined(before: &Value, items: &[Value]) -> Value {
    let mut result = before.as_array().cloned().unwrap_or_default();
    for item in items {
        if !result.contains(item) {
            result.push(item.clone());
        }
    }
    Value::Array(result)
}

fn joined_by(before: &Value, items: &[Value], by: &str) -> Value {
    let mut result = before.as_array().cloned().unwrap_or_default();
    for item in items {
        let at = result.iter().position(|old| old[by] == item[by]);
        match (item["$patch"].as_str(), at) {
            (Some("delete"), Some(at)) => drop(result.remove(at)),
            (Some("delete"), None) => {}
            (_, Some(at)) => result[at] = strategic(&result[at], item),
            (_, None) => result.push(strategic(&Value::Null, item)),
        }
    }
    Value::Array(result)
}

fn without_directives(map: &Map<String, Value>) -> Map<String, Value> {
    map.iter().filter(|(key, _)| !key.starts_with('$')).map(|(k, v)| (k.clone(), v.clone())).collect()
}

fn operations(object: &Value, patch: &Value) -> Result<Value, Refusal> {
    let list = patch.as_array().ok_or_else(|| Refusal::bad("a JSON patch must be a list"))?;
    let mut result = object.clone();
    for operation in list {
        let path = operation["path"].as_str().unwrap_or_default();
        let value = operation["value"].clone();
        let misfit = || Refusal::invalid(format!("the server rejected our request: cannot patch {path:?}"));
        match operation["op"].as_str() {
            Some("test") if result.pointer(path) == Some(&value) => {}
            Some("add") => add(&mut result, path, value).ok_or_else(misfit)?,
            Some("replace") => *result.pointer_mut(path).ok_or_else(misfit)? = value,
            Some("remove") => drop(remove(&mut result, path).ok_or_else(misfit)?),
            _ => return Err(misfit()),
        }
    }
    Ok(result)
}

fn parent<'a>(value: &'a mut Value, path: &str) -> Option<(&'a mut Value, String)> {
    let (parent, last) = path.rsplit_once('/')?;
    Some((value.pointer_mut(parent)?, last.replace("~1", "/").replace("~0", "~")))
}

fn add(value: &mut Value, path: &str, item: Value) -> Option<()> {
    if path.is_empty() {
        *value = item;
        return Some(());
    }
    match parent(value, path)? {
        (Value::Object(map), key) => drop(map.insert(key, item)),
        (Value::Array(list), key) if key == "-" => list.push(item),
        (Value::Array(list), key) => {
            let at = key.parse().ok().filter(|at| *at <= list.len())?;
            list.insert(at, item);
        }
        _ => return None,
    }
    Some(())
}

fn remove(value: &mut Value, path: &str) -> Option<Value> {
    match parent(value, path)? {
        (Value::Object(map), key) => map.remove(&key),
        (Value::Array(list), key) => {
            let at = key.parse().ok().filter(|at| *at < list.len())?;
            Some(list.remove(at))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn applied(kind: &str, object: Value, patch: Value) -> Value {
        apply(&object, &format!("application/{kind}"), patch.to_string().as_bytes()).unwrap()
    }

    #[test]
    fn a_merge_patch_removes_by_null() {
        let object = json!({"spec": {"unschedulable": true, "taints": [1]}, "a": 1});
        let patch = json!({"spec": {"unschedulable": null, "taints": [2]}});
        assert_eq!(applied("merge-patch+json", object, patch), json!({"spec": {"taints": [2]}, "a": 1}));
    }

    #[test]
    fn a_strategic_patch_joins_conditions_and_replaces_taints() {
        let object = json!({"status": {"conditions": [{"type": "Ready", "status": "False", "x": 1}, {"type": "Disk"}]},
            "spec": {"taints": [{"key": "a"}]}, "metadata": {"finalizers": ["f", "g"]}});
        let patch = json!({"status": {"conditions": [{"type": "Ready", "status": "True"}]},
            "spec": {"taints": [{"key": "b"}]}, "metadata": {"$deleteFromPrimitiveList/finalizers": ["f"]}});
        let expected = json!({
            "status": {"conditions": [{"type": "Ready", "status": "True", "x": 1}, {"type": "Disk"}]},
            "spec": {"taints": [{"key": "b"}]}, "metadata": {"finalizers": ["g"]}});
        assert_eq!(applied("strategic-merge-patch+json", object, patch), expected);
    }

    #[test]
    fn a_json_patch_can_name_an_annotation() {
        let object = json!({"metadata": {"annotations": {}}});
        let patch = json!([{"op": "add", "path": "/metadata/annotations/a.b~1c", "value": "d"}]);
        let expected = json!({"metadata": {"annotations": {"a.b/c": "d"}}});
        assert_eq!(applied("json-patch+json", object, patch), expected);
        let wrong = json!([{"op": "replace", "path": "/nope", "value": 1}]).to_string();
        assert!(apply(&json!({}), "application/json-patch+json", wrong.as_bytes()).is_err());
        assert!(apply(&json!({}), "text/plain", b"{}").is_err());
    }
}
