"""Networks of one lab host: links, addresses, rules, names and packets, all made over netlink."""
