-- ARGV: '1' for those that are unread only
return message_list(ARGV[1] == '1')
