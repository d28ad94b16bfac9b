//! The product as its users meet it: real processes, real files, real sockets.
#![forbid(unsafe_code)]

mod badcert;
mod budgets;
mod clock;
mod dark;
mod demo;
mod desk;
mod disk;
mod documents;
mod expired;
mod faults;
mod federation;
mod folder;
mod hostile;
mod identities;
mod join;
mod keys;
mod lists;
mod logs;
mod notify;
mod otlp;
mod page;
mod people;
mod pkcs11;
mod policy;
mod refused_starts;
mod restore;
mod rotation;
mod sessions;
mod site;
mod sources;
mod standards;
mod storm;
mod story;
mod successor;
mod workloads;
