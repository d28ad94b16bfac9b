//! Figures against yardsticks
