//! The manual's page of variables, from the table.

use std::fmt::Write;

use super::{Origin, Roles, Served, Variable, sections};

const HEAD: &str = "# Context variables

Written from the agent's own table (`agent/src/context/table`); `UPDATE_EXPECT=1 cargo test -p oneke-suite --test context` rewrites this page.

- An empty value is as good as none: the default counts.
- A variable of the form `YES or NO` is true if it is `YES`, in any case, or `1`. Everything else, `true` too, is false.
- In a name a lower-case letter stands for a number (`ETHx`, `LBn`), a final `*` for any ending.
- A problem stops the agent until the context is corrected; it counts only for the roles that are named, since newer front ends hand every input to every role.
- Interface lists hold `ethX`, `ethX/ADDRESS`, `ADDRESS`, each with `@PORT` where needed, and `!ethX` to leave one out. NICs with `ETHx_VROUTER_MANAGEMENT` are always left out.
- The placeholders `<ETHx_IP0>`, `<ETHx_VIPn>` and `<ETHx_EPn>` (the virtual address if there is one, else the NIC's) are resolved on the vnf.
- `oneke-agent check` holds a context against all of this; `oneke-agent context` prints it.

Origin: *input* is asked for by the marketplace's service template, *appliance* is known to the old appliance only, *OpenNebula* comes from oned or is read by one-context, *older name* gives way to the newer, *new* is ours.
";

/// `docs/context-variables.md`.
pub fn markdown() -> String {
    let mut page = HEAD.to_owned();
    for (title, variables) in sections() {
        page.push_str(&format!("\n## {title}\n\n"));
        page.push_str(
            "| Variable | Default | Expected | Roles | Origin | Meaning |\n|---|---|---|---|---|---|\n",
        );
        for variable in variables {
            row(&mut page, variable);
        }
    }
    page
}

fn row(page: &mut String, variable: &Variable) {
    let default = if variable.default.is_empty() { String::new() } else { code(variable.default) };
    let roles = if variable.roles == Roles::NONE { String::new() } else { variable.roles.to_string() };
    let mut doc = variable.doc.to_owned();
    if variable.secret {
        doc.push_str(" Secret: never shown.");
    }
    if !variable.differs.is_empty() {
        doc.push_str(&format!(" *{}*", variable.differs));
    }
    match variable.served {
        Served::Agent => {}
        Served::Guest => doc.push_str(" (one-context)"),
        Served::Build => doc.push_str(" (image build)"),
        Served::No(why) => doc.push_str(&format!(" **Not served:** {why}.")),
    }
    let cells =
        [code(variable.name), default, cell(&variable.form.to_string()), roles, origin(variable), cell(&doc)];
    writeln!(page, "| {} |", cells.join(" | ")).expect("a String takes any text");
}

fn origin(variable: &Variable) -> String {
    let word = match variable.origin {
        Origin::Marketplace => "input",
        Origin::Appliance => "appliance",
        Origin::OpenNebula => "OpenNebula",
        Origin::Legacy => "older name",
        Origin::New => "new",
    };
    word.to_owned()
}

fn code(text: &str) -> String {
    format!("`{text}`")
}

/// Text that Markdown takes literally, inside a table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('<', "&lt;")
}
