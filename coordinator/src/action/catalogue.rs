//! Every action that a node knows: the built-in schemas, and those that the active bundle brings.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use super::{Schema, SchemaError};

/// Schemas by class, `<operation>/<connector>`.
#[derive(Debug, Clone, Default)]
pub struct Catalogue(BTreeMap<String, Arc<Schema>>);

macro_rules! built_in {
    ($($name:literal),* $(,)?) => {
        [$(($name, include_bytes!(concat!("../../../deploy/schemas/", $name)).as_slice())),*]
    };
}

impl Catalogue {
    /// The schemas that every build carries: `deploy/schemas/`.
    ///
    /// # Panics
    /// Never: a test reads them.
    #[must_use]
    pub fn built_in() -> &'static Self {
        static BUILT_IN: OnceLock<Catalogue> = OnceLock::new();
        BUILT_IN.get_or_init(|| {
            let files = built_in![
                "devops.file.delete.json",
                "devops.file.read.json",
                "devops.file.restore.json",
                "devops.file.write.json",
                "security.address.block.json",
                "security.address.unblock.json",
                "security.blocklist.read.json",
            ];
            match Self::default().with(files) {
                Ok(catalogue) => catalogue,
                Err(e) => unreachable!("a built-in schema is broken: {e}"),
            }
        })
    }

    /// Adds schemas. A class that is here already is refused: a bundle cannot weaken what the build says of an action.
    ///
    /// # Errors
    /// [`SchemaError`] for the first document that is none, or comes twice.
    pub fn with<'a>(&self, files: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> Result<Self, SchemaError> {
        let mut all = self.clone();
        for (name, bytes) in files {
            let schema = Schema::read(name, bytes)?;
            let class = schema.class();
            if all.0.contains_key(&class) {
                return Err(SchemaError {
                    name: name.to_owned(),
                    why: format!("there is a schema for {class} already"),
                });
            }
            all.0.insert(class, Arc::new(schema));
        }
        Ok(all)
    }

    /// The schema of a class.
    #[must_use]
    pub fn get(&self, class: &str) -> Option<&Arc<Schema>> {
        self.0.get(class)
    }

    /// All schemas, in the order of their classes.
    pub fn schemas(&self) -> impl Iterator<Item = &Arc<Schema>> {
        self.0.values()
    }

    /// The classes of one operation.
    pub fn of_operation<'a>(&'a self, operation: &'a str) -> impl Iterator<Item = &'a Arc<Schema>> {
        self.0.values().filter(move |schema| schema.about().operation == operation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_schemas_can_be_read_and_what_undoes_is_there() {
        let catalogue = Catalogue::built_in();
        assert!(catalogue.get("security.address.block/blocklist").is_some());
        for schema in catalogue.schemas() {
            if let Some(undo) = &schema.about().undo {
                let class = format!("{}/{}", undo.operation, schema.about().connector);
                assert!(catalogue.get(&class).is_some(), "{class}");
            }
        }
    }

    #[test]
    fn a_bundle_cannot_redefine_a_class() {
        let weaker = include_bytes!("../../../deploy/schemas/devops.file.delete.json");
        let refused = Catalogue::built_in().with([("mine.json", weaker.as_slice())]).expect_err("must be refused");
        assert!(
            refused.to_string().contains("mine.json: there is a schema for devops.file.delete/folder already"),
            "{refused}"
        );
    }
}
