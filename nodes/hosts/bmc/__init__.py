"""BMCs over Redfish: one service's answers, its sessions, its systems and the switch for their power."""
