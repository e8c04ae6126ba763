"""What joins the core to the wire: frames, reports and the links to the peers."""
