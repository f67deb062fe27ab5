//! The CustomResourceDefinitions, made from the types.
