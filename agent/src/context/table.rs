//! The one table of variables. It feeds the parser, `oneke-agent check`, and `docs/context-variables.md`.
