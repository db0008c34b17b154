<?php echo "pong";
