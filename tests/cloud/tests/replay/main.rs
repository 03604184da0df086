//! The simulator held to the recorded exchanges in `captures/`: status, reason, headers, and bodies
//! byte for byte.
//!
//! What differs by nature is masked before bodies are compared, in the long form of `/service` only:
//! times, monitoring figures, hosts, UUIDs ([`recorded::MASKED`]). Durations are not compared:
//! timelines are held to the order of their states.

mod contexts;
mod recorded;
mod story;
mod timelines;
mod updates;

/// Recordings that are not replayed, and why.
const NOT_REPLAYED: [(&str, &str); 3] = [
    (
        "context-dollar-substitution.txt",
        "what was substituted was not recorded; src/context.rs tests the rules",
    ),
    ("erase-race.json", "a count of losses; `updates::an_erase_loses_what_others_write_meanwhile` shows how"),
    (
        "timeline-deploy.jsonl",
        "its five bodies are those of the story's first stage, which is compared exactly",
    ),
];

/// Each recording is named by a test here, or in the list above.
#[test]
fn every_recording_is_accounted_for() {
    let tests = [
        include_str!("contexts.rs"),
        include_str!("story.rs"),
        include_str!("timelines.rs"),
        include_str!("updates.rs"),
    ];
    let mut forgotten = Vec::new();
    for name in recorded::names() {
        let stem = name.split('.').next().unwrap_or_default();
        let is_named =
            |text: &&str| text.contains(&format!("\"{stem}\"")) || text.contains(&format!("\"{name}\""));
        let excused = NOT_REPLAYED.iter().any(|(excused, _)| *excused == name);
        if excused == tests.iter().any(is_named) {
            forgotten.push(name);
        }
    }
    assert!(forgotten.is_empty(), "neither replayed nor excused, or both: {forgotten:?}");
}
