# Completes craftsync in fish. Made by: craftsync completion fish

function _craftsync
    set -l words (commandline -opc)
    set -l program $words[1]
    set -e words[1]
    # As the program would get it: without an open quote, and without backslashes.
    set -l word (commandline -ct | string replace -r '^[\'"]' '' | string unescape)
    _CRAFTSYNC_COMPLETE=fish $program $words "$word" 2>/dev/null </dev/null
end

complete -c craftsync -f -a '(_craftsync)'
