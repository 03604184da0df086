//! Manifests that the user gives in place of ours: base64 of YAML documents, checked before RKE2 meets them.

use std::fmt;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_saphyr::DuplicateKeyPolicy;

use super::forms;
use super::reader::Reader;

/// The decoded documents.
pub(super) fn read(reader: &mut Reader<'_>, name: &str) -> Option<String> {
    let value = reader.text(name)?;
    let fault = match forms::base64_text(value) {
        None => "this is no base64 of text".to_owned(),
        Some(yaml) => match check(&yaml) {
            Ok(()) => return Some(yaml),
            Err(fault) => fault,
        },
    };
    reader.problem(name, value, format!("expected base64 of Kubernetes objects in YAML: {fault}"));
    None
}

/// Whether these are Kubernetes objects, empty documents aside. A key given twice is forgiven, as Kubernetes does.
fn check(yaml: &str) -> Result<(), String> {
    let options =
        serde_saphyr::options! { duplicate_keys: DuplicateKeyPolicy::LastWins, with_snippet: false };
    let documents: Vec<Shape> =
        serde_saphyr::from_multiple_with_options(yaml, options).map_err(|error| place(&error))?;
    match documents.iter().position(|shape| *shape == Shape::Other) {
        Some(index) => Err(format!("document {} is no object with apiVersion and kind", index + 1)),
        None => Ok(()),
    }
}

/// The error in one line, its place first.
fn place(error: &serde_saphyr::Error) -> String {
    let text = error.without_snippet().to_string();
    let line = text.lines().next().unwrap_or_default();
    let what = line.split_once(" at line ").map_or(line, |(what, _)| what);
    match error.location() {
        Some(at) => format!("line {}, column {}: {what}", at.line(), at.column()),
        None => what.to_owned(),
    }
}

/// What a document is, whatever it holds.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Shape {
    Empty,
    Object,
    Other,
}

impl<'de> Deserialize<'de> for Shape {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ShapeVisitor)
    }
}

struct ShapeVisitor;

impl<'de> Visitor<'de> for ShapeVisitor {
    type Value = Shape;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a Kubernetes object")
    }

    fn visit_unit<E>(self) -> Result<Shape, E> {
        Ok(Shape::Empty)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Shape, A::Error> {
        let (mut version, mut kind) = (false, false);
        while let Some(key) = map.next_key::<String>()? {
            map.next_value::<IgnoredAny>()?;
            version |= key == "apiVersion";
            kind |= key == "kind";
        }
        Ok(if version && kind { Shape::Object } else { Shape::Other })
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Shape, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Shape::Other)
    }

    fn visit_str<E>(self, _: &str) -> Result<Shape, E> {
        Ok(Shape::Other)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Shape, E> {
        Ok(Shape::Other)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Shape, E> {
        Ok(Shape::Other)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Shape, E> {
        Ok(Shape::Other)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Shape, E> {
        Ok(Shape::Other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_are_objects() {
        let object = "apiVersion: helm.cattle.io/v1\nkind: HelmChartConfig\nspec:\n  valuesContent: |-\n    a: [1, 2]\n";
        assert_eq!(check(object), Ok(()));
        assert_eq!(check(&format!("---\n{object}---\n---\n{object}")), Ok(()));
        assert_eq!(check("apiVersion: v1\nkind: A\nkind: B\n"), Ok(()));
        assert_eq!(check(""), Ok(()));
        let second = format!("{object}---\n- x\n");
        assert_eq!(check(&second), Err("document 2 is no object with apiVersion and kind".into()));
        assert_eq!(check("just text"), Err("document 1 is no object with apiVersion and kind".into()));
        assert_eq!(check("a: 1"), Err("document 1 is no object with apiVersion and kind".into()));
    }

    #[test]
    fn a_fault_has_its_place() {
        let fault = check("apiVersion: v1\nkind: X\nspec: [1, 2\n");
        assert_eq!(fault, Err("line 3, column 7: unclosed bracket '['".into()));
        let fault = check("apiVersion: v1\nspec:\n\tkind: X\n").unwrap_err();
        assert!(fault.starts_with("line 3, column "), "{fault}");
        assert!(!fault.contains('\n'), "{fault}");
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_it_panic(yaml in "[-a: \\[\\]{}&*|>!#%\"'\n\t]{0,60}") {
            let _ = check(&yaml);
        }
    }
}
